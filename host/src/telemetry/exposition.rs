//! The text that Prometheus reads: families of samples, version 0.0.4 of its format.

use std::fmt::{Display, Write};

use super::counter::{BUCKETS, Distribution};

/// The media type of [`Exposition::into_text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Named `…_total`.
    Counter,
    Gauge,
    Histogram,
}

/// A text in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: String,
}

/// Names and values of labels; values may hold anything.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a family; the samples that follow are its own. A family must be begun once only.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        name.clone_into(&mut self.family);
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.named_sample("", labels, None, value);
    }

    pub fn into_text(self) -> String {
        self.text
    }

    /// Writes a histogram: for each bound, and beyond the last, how many values fell between it and the one before.
    pub fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut cumulative = 0;
        for (count, bound) in counts.iter().zip(bounds) {
            cumulative += count;
            self.named_sample("_bucket", labels, Some(&bound.to_string()), cumulative);
        }
        let count: u64 = counts.iter().sum();
        self.named_sample("_bucket", labels, Some("+Inf"), count);
        self.named_sample("_sum", labels, None, sum);
        self.named_sample("_count", labels, None, count);
    }

    pub(super) fn distribution(&mut self, labels: Labels<'_>, distribution: &Distribution) {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        self.histogram(labels, &BUCKETS.map(seconds), &distribution.counts, seconds(distribution.nanoseconds));
    }

    fn named_sample(&mut self, suffix: &str, labels: Labels<'_>, limit: Option<&str>, value: impl Display) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        let limit = limit.map(|limit| ("le", limit));
        let mut opening = '{';
        for (name, value) in labels.iter().copied().chain(limit) {
            self.text.push(opening);
            self.write(format_args!("{name}=\""));
            self.escape(value);
            self.text.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    fn escape(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Histogram;

    #[test]
    fn label_values_are_escaped() {
        let mut exposition = Exposition::default();

        exposition.family("staunch_x_total", Kind::Counter, "Xs.");
        exposition.sample(&[], 1);
        exposition.sample(&[("a", "b\\c\"d\ne"), ("f", "")], 2);

        assert_eq!(
            exposition.into_text(),
            "# HELP staunch_x_total Xs.\n# TYPE staunch_x_total counter\nstaunch_x_total 1\n\
             staunch_x_total{a=\"b\\\\c\\\"d\\ne\",f=\"\"} 2\n"
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative_and_in_seconds() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_secs(100));
        let mut distribution = Distribution::default();
        distribution.add(&histogram);
        let mut exposition = Exposition::default();

        exposition.family("x_seconds", Kind::Histogram, "X.");
        exposition.distribution(&[("route", "r")], &distribution);

        let text = exposition.into_text();
        for line in [
            "x_seconds_bucket{route=\"r\",le=\"0.0005\"} 0\n",
            "x_seconds_bucket{route=\"r\",le=\"0.001\"} 1\n",
            "x_seconds_bucket{route=\"r\",le=\"60\"} 1\n",
            "x_seconds_bucket{route=\"r\",le=\"+Inf\"} 2\n",
            "x_seconds_sum{route=\"r\"} 100.001\n",
            "x_seconds_count{route=\"r\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}in {text}");
        }
    }
}
