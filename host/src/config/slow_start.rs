//! How an endpoint that has just come gets its share of the traffic little by little.

use std::time::Duration;

use super::fault::Fault;
use super::reader::{Read, Reader, Scope};
use super::tree::{Kind, Value};

/// How the weight of an endpoint grows that has joined or come back: Envoy's slow start. Written `slow_start = "30s"` or
/// as a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// The time until it has its whole weight.
    pub window: Duration,
    /// How early it gets more of it (1.0: evenly; above 0, at most 100).
    pub aggression: f64,
    /// The share of its weight that it begins with (10; 1 to 100).
    pub min_weight_percent: u32,
}

impl SlowStart {
    /// One that grows evenly.
    pub fn new(window: Duration) -> Self {
        Self { window, aggression: 1.0, min_weight_percent: 10 }
    }
}

impl Read for SlowStart {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        let Kind::Table(table) = &value.kind else {
            return Duration::read(value, scope).map(Self::new);
        };
        let mut reader = Reader::new(table, scope);
        let window = reader.required_value("window").and_then(|value| Duration::read(value, scope));
        let mut slow_start = Self::new(window.unwrap_or(Duration::from_secs(1)));
        reader.set_number("min_weight_percent", 1..=100, &mut slow_start.min_weight_percent);
        if let Some(written) = reader.value("aggression") {
            slow_start.aggression = aggression(written, scope).unwrap_or(slow_start.aggression);
        }
        window.map(|_| slow_start)
    }
}

fn aggression(value: &Value, scope: &Scope<'_>) -> Option<f64> {
    let number = match &value.kind {
        Kind::Integer(number) => *number as f64,
        Kind::Float(number) => number.replace('_', "").parse().unwrap_or(f64::NAN),
        _ => {
            scope.mismatch(value, "a number such as 1.5");
            return None;
        }
    };
    if number > 0.0 && number <= 100.0 {
        return Some(number);
    }
    let message = format!("expected a number above 0, at most 100, found {}", value.describe());
    scope.fault(Fault::new(value.place, message));
    None
}
