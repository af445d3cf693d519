//! Kernel settings in the files of `tuning/`: each value has its reason, its rule ("# check:") and its cost ("# cost:") above
//! it. The doctor, `tuning/check` and `tuning/tune` read the same lines.

/// One kernel setting with the rule for its value.
#[derive(Clone, Debug)]
pub struct SysctlRule {
    pub key: String,
    /// A leading "-": it is not an error if the kernel lacks the setting, or its module is not loaded.
    pub optional: bool,
    pub value: String,
    conditions: Vec<Condition>,
    /// The text of the rule in the file.
    pub rule: String,
    pub why: String,
    pub cost: String,
}

#[derive(Clone, Debug)]
struct Condition {
    /// Counted from 0.
    field: usize,
    bound: Bound,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Bound {
    AtLeast(u64),
    AtMost(u64),
    Exactly(String),
}

impl SysctlRule {
    /// The number of conditions that were understood.
    #[cfg(test)]
    pub fn conditions(&self) -> usize {
        self.conditions.len()
    }

    /// The value fulfills every condition.
    pub fn holds(&self, value: &str) -> bool {
        let fields: Vec<&str> = value.split_whitespace().collect();
        let number = |condition: &Condition| fields.get(condition.field).and_then(|field| field.parse::<u64>().ok());
        self.conditions.iter().all(|condition| match &condition.bound {
            Bound::AtLeast(least) => number(condition).is_some_and(|number| number >= *least),
            Bound::AtMost(most) => number(condition).is_some_and(|number| number <= *most),
            Bound::Exactly(text) => fields.join(" ") == *text,
        })
    }
}

/// Every "key = value" of a file with the comment above it.
pub(crate) fn parse_rules(file: &str) -> Vec<SysctlRule> {
    let mut rules = Vec::new();
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
            let text = if rule.is_empty() { exactly.as_str() } else { rule };
            rules.push(SysctlRule {
                key: key.trim_start_matches('-').into(),
                optional: key.starts_with('-'),
                value: value.into(),
                conditions: text.split(',').filter_map(|part| read(part.trim())).collect(),
                rule: text.into(),
                why: why.join(" "),
                cost: cost.into(),
            });
        }
    }
    rules
}

/// `[field N] at least|at most|exactly VALUE`.
fn read(text: &str) -> Option<Condition> {
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
    Some(Condition { field, bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_own_bound() {
        let first = |text: &str| parse_rules(text).remove(0);
        let range = first("# check: field 1 at most 16384, field 2 at least 65535\nnet.range = 10240 65535");
        for (value, holds) in [("10240 65535", true), ("32768 65535", false), ("10240 60999", false), ("x", false)] {
            assert_eq!(range.holds(value), holds, "{value}");
        }
        let exact = first("-a.b = 1");
        assert!(exact.optional && exact.holds("1") && !exact.holds("0") && exact.rule == "exactly 1");
        assert!(first("# check: at least 5\na.b = 9").holds("9223372036854775807"));
    }
}
