//! Settings in environment variables: a variable for each setting, and for the lists of tables (`registry::LISTS`) JSON or names
//! in one variable and a variable for each setting of a named element, as the original reads them.
//!
//! Container platforms write variables too. Those of a service that is named like a prefix of ours are recognized; quotes and
//! blanks around a value are dropped, unless it is a secret; an empty variable counts as unset.

use super::flatten::flatten;
use super::raw_setting::RawSetting;
use crate::config::centrifugo;
use crate::config::error::{ConfigError, Origin, nearest};
use crate::config::parse::json::{Node, json};
use crate::config::parse::value::{Invalid, Raw};
use crate::config::schema::config::Config;
use crate::config::schema::registry::{ENVIRONMENT_PREFIX, LISTS, SETTINGS, Setting, element_keys, variable_of};

/// Variables with our prefix that are not settings.
const NOT_SETTINGS: [&str; 3] = ["CORECAST_CONFIG", "CORECAST_LOG", "CORECAST_TUNING_STATE"];
/// The prefix of the original's variables.
const ORIGINAL_PREFIX: &str = "CENTRIFUGO_";

/// What the environment says beyond its values.
#[derive(Default, Debug)]
pub struct Findings {
    /// Variables without effect: a sentence each.
    pub warnings: Vec<String>,
    pub errors: Vec<ConfigError>,
}

/// Adds the values of the environment to `values`, which holds those of the file. A variable with our prefix that is not a
/// setting gives a warning.
pub fn environment(variables: impl Iterator<Item = (String, String)>, values: &mut Vec<RawSetting>) -> Findings {
    let mut found = Findings::default();
    let mut ours = Vec::new();
    let mut original = Vec::new();
    for (variable, text) in variables {
        if variable.starts_with(ORIGINAL_PREFIX) {
            original.push(variable);
        } else if variable.starts_with(ENVIRONMENT_PREFIX) && !NOT_SETTINGS.contains(&variable.as_str()) {
            match is_service_link(&variable, &text) {
                true => log::debug!("environment: {variable} describes a service of the platform and is not a setting"),
                false => ours.push((variable, text)),
            }
        }
    }
    if !original.is_empty() {
        original.sort();
        let names = original.join(", ");
        found.warnings.push(format!(
            "environment: {names} have no effect; the variables of this server begin with {ENVIRONMENT_PREFIX}"
        ));
    }
    ours.sort();
    // The lists come first: their elements have variables too.
    for list in LISTS {
        let variable = variable_of(list);
        if let Ok(index) = ours.binary_search_by(|(name, _)| name.as_str().cmp(&variable)) {
            let (variable, text) = ours.remove(index);
            if let Err(error) = add_list(list, &variable, &text, values) {
                found.errors.push(error);
            }
        }
    }
    let elements = elements(values);
    for (variable, text) in ours {
        add(variable, text, &elements, values, &mut found);
    }
    found
}

/// Kubernetes and Docker describe each service in variables that begin with its name: of a service `corecast` or
/// `corecast-grpc-api` they have our prefix.
fn is_service_link(variable: &str, text: &str) -> bool {
    let transports = ["tcp", "udp", "sctp"];
    let is_url = transports.iter().any(|transport| text.trim().starts_with(&format!("{transport}://")));
    let ends = |name: &str, end: &str| name.ends_with(end);
    let is_port = |name: &str| {
        // NAME_PORT_8000_TCP, with _PROTO, _PORT and _ADDR.
        let name = ["_PROTO", "_PORT", "_ADDR"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let number = transports.iter().find_map(|one| name.strip_suffix(&format!("_{}", one.to_uppercase())));
        number.and_then(|name| name.rsplit_once("_PORT_")).is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    let is_service = ends(variable, "_SERVICE_HOST") || ends(variable, "_SERVICE_PORT");
    (is_url && ends(variable, "_PORT")) || is_service || variable.contains("_SERVICE_PORT_") || is_port(variable)
}

/// The text of a value without what platforms put around it: blanks, line ends, and the quotes that `docker run --env-file`
/// does not remove.
fn unwrapped(text: &str) -> String {
    let text = text.trim();
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).map(str::trim);
    match within('"') {
        // Quotes of JSON, with escapes between them.
        Some(inner) => serde_json::from_str::<String>(text).unwrap_or_else(|_| inner.to_owned()),
        None => within('\'').unwrap_or(text).to_owned(),
    }
}

fn add_list(list: &str, variable: &str, text: &str, values: &mut Vec<RawSetting>) -> Result<(), ConfigError> {
    let text = unwrapped(text);
    let origin = Origin::Environment { variable: variable.to_owned() };
    let invalid = |what: String, fix: String| ConfigError::new(origin.clone(), list, Invalid::new(what, fix));
    let fix = || "write a JSON list such as [{\"name\":\"news\"}], or names with blanks between them".to_owned();
    let own = format!("{list}[");
    if text.starts_with(['[', '{']) {
        let items = match json(&text) {
            Ok(Node::Array(items)) => items,
            Ok(_) => return Err(invalid("it is not a JSON list".into(), fix())),
            Err(error) => return Err(invalid(format!("it is not JSON: {error}"), fix())),
        };
        if items.iter().any(|(_, item)| !matches!(item, Node::Table(_))) {
            return Err(invalid("it is a list of other things than objects".into(), fix()));
        }
        values.retain(|value| !value.name.starts_with(&own) && value.name != list);
        let mut flat = Vec::new();
        flatten(list.to_owned(), 0, Node::Array(items), &mut flat);
        values.extend(flat.into_iter().map(|(name, _, raw)| RawSetting { name, raw, origin: origin.clone() }));
        return Ok(());
    }
    let known: Vec<String> = elements(values).into_iter().filter(|one| one.list == list).map(|one| one.name).collect();
    let numbers = values.iter().filter_map(|value| value.name.strip_prefix(&own)?.split(']').next()?.parse().ok());
    let first = numbers.max().map_or(0, |last: usize| last + 1);
    let names = text.split([',', ' ', '\t', '\n']).filter(|name| !name.is_empty());
    let new: Vec<&str> = names.filter(|name| !known.iter().any(|one| one == name)).collect();
    values.extend(new.into_iter().zip(first..).map(|(name, number)| RawSetting {
        name: format!("{list}[{number}].name"),
        raw: Raw::Text(name.to_owned()),
        origin: origin.clone(),
    }));
    Ok(())
}

/// An element of a list, by its name.
struct Element {
    list: &'static str,
    number: usize,
    name: String,
    /// What its variables begin with.
    prefix: String,
}

fn elements(values: &[RawSetting]) -> Vec<Element> {
    let of = |value: &RawSetting| {
        let list = LISTS.into_iter().find(|list| value.name.starts_with(&format!("{list}[")))?;
        let number = value.name[list.len() + 1..].strip_suffix("].name")?.parse().ok()?;
        let Raw::Text(name) = &value.raw else { return None };
        let prefix = format!("{}_{}_", variable_of(list), name.replace(['.', '-'], "_").to_uppercase());
        Some(Element { list, number, name: name.clone(), prefix })
    };
    values.iter().filter_map(of).collect()
}

/// Adds the value of a variable that is not one of a list.
fn add(variable: String, text: String, elements: &[Element], values: &mut Vec<RawSetting>, found: &mut Findings) {
    let setting = SETTINGS.iter().find(|setting| setting.variable() == variable);
    let is_verbatim = setting.is_some_and(|setting| setting.verbatim);
    let inner = unwrapped(&text);
    // The replacement character marks bytes that are not UTF-8.
    if text.contains('\u{fffd}') {
        let invalid = Invalid::new("it is not UTF-8", "write it in UTF-8");
        found.errors.push(ConfigError::new(Origin::Environment { variable }, "", invalid));
        return;
    }
    if inner.is_empty() {
        found.warnings.extend(setting.and_then(|setting| unset(&variable, setting, values)));
        return;
    }
    let origin = Origin::Environment { variable: variable.clone() };
    let raw = Raw::Text(if is_verbatim { text } else { inner });
    let mut add = |name: String| values.push(RawSetting { name, raw: raw.clone(), origin: origin.clone() });
    if let Some(setting) = setting {
        return add(setting.name.clone());
    }
    // The longest name decides: "news" and "news-sport" begin alike.
    let matching = |element: &&Element| key_of(element, &variable).is_some();
    let longest = elements.iter().filter(matching).map(|element| element.prefix.len()).max();
    let named = elements.iter().filter(|element| Some(element.prefix.len()) == longest);
    for (element, key) in named.filter_map(|element| Some((element, key_of(element, &variable)?))) {
        add(format!("{}[{}].{key}", element.list, element.number));
    }
    if longest.is_none() {
        match centrifugo::key_of_variable("", &variable[ENVIRONMENT_PREFIX.len()..]) {
            Some(name) => add(name),
            None => found.warnings.push(unknown(&variable, elements)),
        }
    }
}

/// The key of the element that the variable sets.
fn key_of(element: &Element, variable: &str) -> Option<String> {
    let rest = variable.strip_prefix(&element.prefix)?;
    let own = element_keys(element.list).into_iter().find(|key| key.replace('.', "_").to_uppercase() == rest);
    own.map(str::to_owned).or_else(|| centrifugo::key_of_variable(&format!("{}[].", element.list), rest))
}

/// A warning if an empty variable might be meant as an empty value.
fn unset(variable: &str, setting: &Setting, values: &[RawSetting]) -> Option<String> {
    let is_value = setting.read_into(&mut Config::default(), &Raw::Text(String::new())).is_ok();
    let shown = setting.show(&Config::default());
    let is_set = shown.is_some_and(|shown| !["\"\"", "[]"].contains(&shown.as_str()))
        || values.iter().any(|value| value.name == setting.name);
    (is_value && is_set).then(|| {
        format!(
            "environment: {variable} is empty and counts as unset; to make {} empty, set it in the file, or write [] for an \
             empty list",
            setting.name
        )
    })
}

fn unknown(variable: &str, elements: &[Element]) -> String {
    let list = LISTS.into_iter().find(|list| variable.starts_with(&format!("{}_", variable_of(list))));
    let own = |element: &Element| -> Vec<String> {
        let keys = element_keys(element.list).into_iter();
        keys.map(|key| element.prefix.clone() + &key.replace('.', "_").to_uppercase()).collect()
    };
    let of_elements = elements.iter().flat_map(own);
    let known: Vec<String> =
        SETTINGS.iter().map(Setting::variable).chain(of_elements).chain(LISTS.map(variable_of)).collect();
    let hint = match (list, nearest(variable, known.iter().map(String::as_str))) {
        (Some(list), _) if !elements.iter().any(|element| variable.starts_with(&element.prefix)) => {
            format!("; it names no element of {list}: add its name to the file or to {}", variable_of(list))
        }
        (_, Some(name)) => format!("; did you mean {name}?"),
        (_, None) => String::new(),
    };
    format!("environment: {variable} has no effect, since there is no such setting{hint}")
}
