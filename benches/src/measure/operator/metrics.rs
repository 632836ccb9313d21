//! Numbers out of the text that Prometheus scrapes.

/// One sample: its labels as they are written, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Between the braces.
    pub labels: &'a str,
    /// Behind them.
    pub value: f64,
}

impl Sample<'_> {
    /// Whether it has this label.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.labels.contains(&format!("{name}=\"{value}\""))
    }
}

/// The samples of the metric of this name.
pub fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Sample<'a>> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let value = value.trim().parse().ok()?;
        Some(Sample { labels, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_from_those_of_longer_names() {
        let text = "# HELP a b\na{x=\"1\",y=\"}\"} 2\na_total{x=\"1\"} 7\na 3.5\n";
        let found: Vec<_> = samples(text, "a").map(|sample| sample.value).collect();
        assert_eq!(found, [2.0, 3.5]);
        assert!(samples(text, "a").next().unwrap().has("x", "1"));
    }
}
