//! The text format of Prometheus and OpenMetrics, as far as engines write it: names, labels, values. A line that is no
//! sample is passed over, because half a page of good numbers is worth more than an error.

/// One sample of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// Its name with its ending: `vllm:prompt_tokens_total`.
    pub name: &'a str,
    /// Its labels in the order of the page.
    pub labels: Vec<(&'a str, String)>,
    /// Its value; may be infinite or not a number.
    pub value: f64,
}

impl Metric<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The samples of a page in order; comments, `_created` instants, exemplars and time stamps are left out.
pub fn parse(page: &str) -> impl Iterator<Item = Metric<'_>> {
    page.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Metric<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.ends_with("_created") {
        return None;
    }
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // What follows the value is a time stamp or an exemplar.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Metric {
        name,
        labels,
        value,
    })
}

/// Reads `a="1",b="x\"y",} rest`; commas, braces and spaces inside quotes are text.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_whatever_stands_around_them() {
        let page = "\
# HELP a_total Things {not=\"labels\"}
# TYPE a_total counter
a_total 5
a_created 1.7e9
b{le=\"0.5\",engine=\"0\",} 1.5e3 1700000000000
c_bucket{le=\"+Inf\", text=\"}, \\\"x\\\"\\n\"} +Inf # {trace_id=\"abc\"} 0.67
d NaN
broken{le=\"0.5 3
no_value
e{} -2
";
        let said: Vec<String> = parse(page)
            .map(|metric| format!("{} {:?} {}", metric.name, metric.labels, metric.value))
            .collect();
        assert_eq!(
            said,
            [
                "a_total [] 5",
                "b [(\"le\", \"0.5\"), (\"engine\", \"0\")] 1500",
                "c_bucket [(\"le\", \"+Inf\"), (\"text\", \"}, \\\"x\\\"\\n\")] inf",
                "d [] NaN",
                "e [] -2",
            ]
        );
    }
}
