//! How a section of the settings is declared: each setting once, with its reason, type, unit, default and whether a reload
//! applies it.
//!
//! ```text
//! section! {
//!     /// The section `client`.
//!     #[derive(Clone, Debug)]
//!     pub struct Client {
//!         pub token: TokenSettings = TokenSettings::default(),      // a field that is not a setting of this section
//!     }
//!
//!     /// Time between two pings to a client.                       // the reason: shown in the sample, the table, --help
//!     ping_interval: Duration as Time = Duration::from_secs(25), restart;
//! }
//! ```
//!
//! The macro makes the struct, its `Default` and the settings of the section (`Section::SETTINGS`). `Duration as Time` means:
//! the field is a `Duration`, the unit `Time` reads and writes it. Options after the default are the methods of `Item`.

use crate::config::parse::value::{Argument, Invalid, Raw};

/// A struct of settings.
pub(crate) trait Section: Sized + 'static {
    /// In the order of the sample file.
    const SETTINGS: &'static [Item<Self>];
}

/// A setting of the section `T`, wherever that section is in the file.
pub(crate) struct Item<T: 'static> {
    /// Within the section.
    pub name: &'static str,
    /// What it does, its unit, and what happens past it.
    pub reason: &'static str,
    /// How a value is written.
    pub form: &'static str,
    pub argument: Argument,
    /// Messages must not show the value.
    pub secret: bool,
    /// Blanks and quotes at the ends of a text are part of the value.
    pub verbatim: bool,
    /// The flag of `serve`, if there is one, without the dashes.
    pub flag: Option<&'static str>,
    /// A value to show if nothing is set by default.
    pub example: &'static str,
    /// Another setting gives the default, so the sample shows it as a comment.
    pub inherits: bool,
    /// Only an element of a list has it.
    pub in_list: bool,
    /// A reload does not apply it.
    pub restart: bool,
    pub read: fn(&mut T, &Raw) -> Result<(), Invalid>,
    /// The value as TOML; none if nothing is set.
    pub show: fn(&T) -> Option<String>,
}

/// The options of a declaration.
impl<T> Item<T> {
    /// The setting is also a flag of `serve`.
    pub(crate) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// A value to show in the sample, since nothing is set by default.
    pub(crate) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// Another setting gives the default.
    pub(crate) const fn inherits(mut self) -> Self {
        self.inherits = true;
        self
    }

    /// Only an element of a list has it.
    pub(crate) const fn in_list(mut self) -> Self {
        self.in_list = true;
        self
    }

    /// A reload does not apply it.
    pub(crate) const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// The name in the file, if it is not the field's.
    pub(crate) const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

macro_rules! section {
    // A struct with its default and its settings.
    (
        $(#[$meta:meta])*
        pub struct $section:ident {
            $($(#[$other_meta:meta])* pub $other:ident: $other_type:ty = $other_default:expr,)*
        }
        $(
            $(#[doc = $reason:literal])+
            $field:ident: $type:ty as $unit:ty = $default:expr $(, $option:ident $(($argument:expr))?)*;
        )*
    ) => {
        $(#[$meta])*
        pub struct $section {
            $($(#[doc = $reason])+ pub $field: $type,)*
            $($(#[$other_meta])* pub $other: $other_type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($field: $default,)* $($other: $other_default,)* }
            }
        }

        section! {
            impl $section;
            $($(#[doc = $reason])+ $field: $type as $unit $(, $option $(($argument))?)*;)*
        }
    };
    // The settings of a struct that another module declares.
    (
        impl $section:ty;
        $(
            $(#[doc = $reason:literal])+
            $field:ident: $type:ty as $unit:ty $(, $option:ident $(($argument:expr))?)*;
        )*
    ) => {
        impl $crate::config::schema::section::Section for $section {
            const SETTINGS: &'static [$crate::config::schema::section::Item<Self>] = &[$(
                $crate::config::schema::section::Item::<$section> {
                    name: stringify!($field),
                    reason: concat!($($reason),+).trim_ascii(),
                    form: <$unit as $crate::config::parse::value::Unit<$type>>::FORM,
                    argument: <$unit as $crate::config::parse::value::Unit<$type>>::ARGUMENT,
                    secret: <$unit as $crate::config::parse::value::Unit<$type>>::SECRET,
                    verbatim: <$unit as $crate::config::parse::value::Unit<$type>>::VERBATIM,
                    flag: None,
                    example: "",
                    inherits: false,
                    in_list: false,
                    restart: false,
                    read: |section, raw| {
                        section.$field = <$unit as $crate::config::parse::value::Unit<$type>>::read(raw)?;
                        Ok(())
                    },
                    show: |section| <$unit as $crate::config::parse::value::Unit<$type>>::show(&section.$field),
                }$(.$option($($argument)?))*,
            )*];
        }
    };
}

pub(crate) use section;
