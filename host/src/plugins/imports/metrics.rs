//! Metrics of plugins: handles given once, numbers written without waiting.

use std::sync::Arc;

use wasmtime::Result;

use crate::plugins::bindings::staunch::plugin::metrics;
use crate::plugins::instance::State;
use crate::plugins::metrics::{Cells, NOTHING, Shape};

impl metrics::Host for State {
    fn counter(&mut self, name: String) -> Result<u32> {
        Ok(self.define(&name, Shape::Counter))
    }

    fn gauge(&mut self, name: String) -> Result<u32> {
        Ok(self.define(&name, Shape::Gauge))
    }

    fn histogram(&mut self, name: String, bounds: Vec<f64>) -> Result<u32> {
        Ok(self.define(&name, Shape::Histogram(bounds.into())))
    }

    fn add(&mut self, metric: u32, amount: u64) -> Result<()> {
        self.with(metric, |cells| cells.add(amount))
    }

    fn set(&mut self, metric: u32, value: f64) -> Result<()> {
        self.with(metric, |cells| cells.set(value))
    }

    fn record_value(&mut self, metric: u32, value: f64) -> Result<()> {
        self.with(metric, |cells| cells.record(value))
    }
}

impl State {
    fn define(&mut self, name: &str, shape: Shape) -> u32 {
        let Some((id, cells)) = self.core.metrics.define(self.share.worker, name, shape) else { return NOTHING };
        let at = id as usize;
        if self.metrics.len() <= at {
            self.metrics.resize(at + 1, None);
        }
        self.metrics[at] = Some(cells);
        id
    }

    fn with(&self, metric: u32, write: impl FnOnce(&Cells)) -> Result<()> {
        if let Some(cells) = self.metrics.get(metric as usize).and_then(Option::as_ref).map(Arc::as_ref) {
            write(cells);
        }
        Ok(())
    }
}
