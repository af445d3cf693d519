//! A setting that is a list of tables, each of them a section.

use super::section::Section;
use crate::config::parse::value::{Invalid, Raw, Unit};

/// An element of such a list.
pub(crate) trait TableRow: Section + Default {
    /// A list to show in messages.
    const EXAMPLE: &'static str;

    /// Errors: what is wrong with the element, after its number.
    fn check(&self) -> Result<(), String>;
}

/// A list of tables.
pub(crate) enum Tables {}

impl<T: TableRow> Unit<Vec<T>> for Tables {
    const FORM: &'static str = "list of tables";

    fn read(raw: &Raw) -> Result<Vec<T>, Invalid> {
        let fix = format!("write {}", T::EXAMPLE);
        let mut all = Vec::new();
        for (number, row) in raw.rows(&fix)?.iter().enumerate() {
            let mut element = T::default();
            for (key, raw) in row {
                let Some(item) = T::SETTINGS.iter().find(|item| item.name == key) else {
                    return Err(Invalid::new(format!("[{number}].{key} is unknown"), "remove it"));
                };
                let at = |invalid: Invalid| Invalid::new(format!("[{number}].{key}: {}", invalid.what), invalid.fix);
                (item.read)(&mut element, raw).map_err(at)?;
            }
            element.check().map_err(|what| Invalid::new(format!("[{number}] {what}"), fix.as_str()))?;
            all.push(element);
        }
        Ok(all)
    }

    fn show(elements: &Vec<T>) -> Option<String> {
        let table = |element: &T| {
            let shown = |item: &super::section::Item<T>| Some(format!("{} = {}", item.name, (item.show)(element)?));
            format!("{{ {} }}", T::SETTINGS.iter().filter_map(shown).collect::<Vec<_>>().join(", "))
        };
        Some(format!("[{}]", elements.iter().map(table).collect::<Vec<_>>().join(", ")))
    }
}

/// Bytes of a close reason (RFC 6455, section 5.5); error messages have the same bound.
const REASON_BYTES_MAX: usize = 123;

/// Errors: what is wrong with a text that goes to clients as a close reason or an error message.
pub(crate) fn reason_fits(key: &str, text: &str) -> Result<(), String> {
    match text.is_ascii() && text.len() <= REASON_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("has a {key} that is longer than {REASON_BYTES_MAX} bytes or not ASCII")),
    }
}
