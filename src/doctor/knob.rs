//! Kernel settings as the files of `tuning/` have them: each value with its reason, its rule ("# check:") and its cost
//! ("# cost:") above it. The doctor, `tuning/check` and `tuning/tune` read the same lines.

/// One setting.
#[derive(Clone, Debug)]
pub struct Knob {
    pub key: String,
    /// A leading "-": no fault where the kernel or a missing module has no such setting.
    pub optional: bool,
    pub value: String,
    rules: Vec<Rule>,
    /// As it stands in the file.
    pub rule: String,
    pub why: String,
    pub cost: String,
}

#[derive(Clone, Debug)]
struct Rule {
    /// From 0.
    field: usize,
    bound: Bound,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Bound {
    AtLeast(u64),
    AtMost(u64),
    Exactly(String),
}

impl Knob {
    /// None where the value is not what the rule speaks of.
    pub fn holds(&self, value: &str) -> bool {
        let fields: Vec<&str> = value.split_whitespace().collect();
        let number = |rule: &Rule| fields.get(rule.field).and_then(|field| field.parse::<u64>().ok());
        self.rules.iter().all(|rule| match &rule.bound {
            Bound::AtLeast(least) => number(rule).is_some_and(|is| is >= *least),
            Bound::AtMost(most) => number(rule).is_some_and(|is| is <= *most),
            Bound::Exactly(text) => fields.join(" ") == *text,
        })
    }
}

/// Every "key = value" of a file with what stands above it.
pub fn knobs(file: &str) -> Vec<Knob> {
    let mut knobs = Vec::new();
    let (mut why, mut rule, mut cost) = (Vec::new(), "", "");
    for line in file.lines().map(str::trim) {
        if line.is_empty() {
            (why, rule, cost) = (Vec::new(), "", "");
        } else if let Some(text) = line.strip_prefix("# check: ") {
            rule = text;
        } else if let Some(text) = line.strip_prefix("# cost: ") {
            cost = text;
        } else if let Some(text) = line.strip_prefix('#') {
            why.push(text.trim());
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            let exactly = format!("exactly {value}");
            let said = if rule.is_empty() { exactly.as_str() } else { rule };
            knobs.push(Knob {
                key: key.trim_start_matches('-').into(),
                optional: key.starts_with('-'),
                value: value.into(),
                rules: said.split(',').filter_map(|part| read(part.trim())).collect(),
                rule: said.into(),
                why: why.join(" "),
                cost: cost.into(),
            });
        }
    }
    knobs
}

/// `[field N] at least|at most|exactly VALUE`.
fn read(text: &str) -> Option<Rule> {
    let (field, text) = match text.strip_prefix("field ") {
        Some(rest) => {
            let (number, rest) = rest.split_once(' ')?;
            (number.parse::<usize>().ok()?.checked_sub(1)?, rest)
        }
        None => (0, text),
    };
    let bound = if let Some(number) = text.strip_prefix("at least ") {
        Bound::AtLeast(number.parse().ok()?)
    } else if let Some(number) = text.strip_prefix("at most ") {
        Bound::AtMost(number.parse().ok()?)
    } else {
        Bound::Exactly(text.strip_prefix("exactly ")?.into())
    };
    Some(Rule { field, bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_checked_in_files_is_understood() {
        for (file, least) in [(crate::doctor::sysctl::SERVER, 14), (crate::doctor::sysctl::LOAD, 2)] {
            let knobs = knobs(file);
            assert!(knobs.len() >= least);
            for knob in &knobs {
                assert_eq!(knob.rules.len(), knob.rule.split(',').count(), "{}: {}", knob.key, knob.rule);
                assert!(knob.holds(&knob.value), "{}: its own value is against its rule", knob.key);
                assert!(knob.why.starts_with("Unit: ") && !knob.cost.is_empty(), "{}", knob.key);
            }
        }
    }

    #[test]
    fn fields_and_bounds_are_judged_each_by_its_own() {
        let knob = |text: &str| knobs(text).remove(0);
        let range = knob("# check: field 1 at most 16384, field 2 at least 65535\nnet.range = 10240 65535");
        for (value, holds) in [("10240 65535", true), ("32768 65535", false), ("10240 60999", false), ("x", false)] {
            assert_eq!(range.holds(value), holds, "{value}");
        }
        let exact = knob("-a.b = 1");
        assert!(exact.optional && exact.holds("1") && !exact.holds("0") && exact.rule == "exactly 1");
        assert!(knob("# check: at least 5\na.b = 9").holds("9223372036854775807"));
    }
}
