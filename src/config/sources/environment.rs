//! Settings in environment variables.

use super::raw_setting::RawSetting;
use crate::config::error::{Origin, nearest};
use crate::config::parse::value::Raw;
use crate::config::schema::registry::{ENVIRONMENT_PREFIX, SETTINGS};

/// Variables with our prefix that are not settings.
const NOT_SETTINGS: [&str; 2] = ["CORECAST_CONFIG", "CORECAST_LOG"];
/// The prefix of the original's variables.
const ORIGINAL_PREFIX: &str = "CENTRIFUGO_";

/// The values of the environment, and a warning for each variable with our prefix that is not a setting. Such a variable is not
/// an error: container platforms set variables named after a service (`CORECAST_PORT`).
pub fn environment(variables: impl Iterator<Item = (String, String)>) -> (Vec<RawSetting>, Vec<String>) {
    let mut values = Vec::new();
    let mut warnings = Vec::new();
    let mut original: Vec<String> = Vec::new();
    for (variable, text) in variables {
        if variable.starts_with(ORIGINAL_PREFIX) {
            original.push(variable);
        } else if variable.starts_with(ENVIRONMENT_PREFIX) && !NOT_SETTINGS.contains(&variable.as_str()) {
            match SETTINGS.iter().find(|setting| setting.variable() == variable) {
                Some(setting) => values.push(RawSetting {
                    name: setting.name.clone(),
                    raw: Raw::Text(text),
                    origin: Origin::Environment { variable },
                }),
                None => warnings.push(unknown(&variable)),
            }
        }
    }
    if !original.is_empty() {
        original.sort();
        let names = original.join(", ");
        warnings.push(format!(
            "environment: {names} have no effect; the variables of this server begin with {ENVIRONMENT_PREFIX}"
        ));
    }
    values.sort_by(|a, b| a.name.cmp(&b.name));
    (values, warnings)
}

fn unknown(variable: &str) -> String {
    let known: Vec<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
    let hint = nearest(variable, known.iter().map(String::as_str))
        .map_or(String::new(), |name| format!("; did you mean {name}?"));
    format!("environment: {variable} has no effect, since there is no such setting{hint}")
}
