//! A value before it has a type, and what every unit of a setting can do: read such a value and write it again.
//!
//! A unit is a type without values, such as `Time` or `Bytes`. It reads a setting from text (environment, flags) as well as
//! from TOML's own kinds, and writes it as the TOML that reads back to the same value. What it cannot read it answers with
//! what is wrong and how to fix it; the caller adds the name of the setting.

/// One value of a source.
#[derive(Clone, PartialEq, Debug)]
pub enum Raw {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<String>),
    /// A table whose keys the operator chooses.
    Table(Row),
    /// A list of tables that is one setting.
    Rows(Vec<Row>),
    /// A kind of value that no setting takes, by its name.
    Other(&'static str),
}

/// Keys with their values; a dot in a key separates the names of nested tables.
pub type Row = Vec<(String, Raw)>;

/// What is wrong with a value, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    pub what: String,
    pub fix: String,
}

impl Invalid {
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// How a flag on the command line takes its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// The flag alone means true.
    None,
    /// One value, shown in the help by this name.
    One(&'static str),
    /// The flag may be repeated.
    Many(&'static str),
}

/// How a setting of the type `T` is read and written.
pub(crate) trait Unit<T> {
    /// How a value is written, for the sample file and the table.
    const FORM: &'static str;
    const ARGUMENT: Argument = Argument::One("N");
    /// The value may hold a secret and is left out of messages.
    const SECRET: bool = false;
    /// Blanks and quotes at the ends of a text are part of the value.
    const VERBATIM: bool = false;

    fn read(raw: &Raw) -> Result<T, Invalid>;

    /// The value as TOML; none if nothing is set.
    fn show(value: &T) -> Option<String>;
}

impl Raw {
    /// The value, or its kind if it is long, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{text}\""),
            Self::Integer(number) => number.to_string(),
            Self::Bool(on) => on.to_string(),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
            Self::Rows(_) => "a list of tables".into(),
            Self::Other(kind) => format!("a value of the kind {kind}"),
        }
    }

    pub fn is_not(&self, expected: &str, fix: &str) -> Invalid {
        Invalid::new(format!("{} is not {expected}", self.describe()), fix)
    }
}

/// The whole number that `text` is, also as a float: programs that fill in templates write large numbers as 1.048576e+06.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    /// A float holds every whole number up to this one.
    const EXACT_MAX: f64 = (1u64 << 53) as f64;
    let text = text.trim();
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT_MAX;
    let float = || text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| text.parse().ok())?;
    text.parse().ok().or_else(|| float().filter(whole).map(|number| number as i64))
}

/// What templates and shells leave where a value is missing: as a secret it could be guessed.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let within = |start: &str, end: &str| text.trim().strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    ["<no value>", "<nil>"].contains(&text.trim())
        || within("${", "}").or_else(|| within("$(", ")")).is_some_and(is_name)
        || within("{{", "}}").is_some_and(|inner| !inner.contains("}}"))
}

pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(crate) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}
