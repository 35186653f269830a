//! Cells and values that a use shares over all workers.

use wasmtime::Result;

use crate::plugins::bindings::staunch::plugin::shared::{self, SharedError};
use crate::plugins::instance::State;
use crate::plugins::shared::{compare_exchange, fetch_add, load};
use crate::plugins::values::NotWritten;

impl shared::Host for State {
    fn cell(&mut self, name: String) -> Result<u32> {
        Ok(self.core.shared.cell(&name).unwrap_or_else(|| self.own_cells.cell(&name)))
    }

    fn load(&mut self, cell: u32) -> Result<u64> {
        Ok(load(&self.core.shared, &mut self.own_cells, cell))
    }

    fn fetch_add(&mut self, cell: u32, amount: u64) -> Result<u64> {
        Ok(fetch_add(&self.core.shared, &mut self.own_cells, cell, amount))
    }

    fn compare_exchange(&mut self, cell: u32, current: u64, new: u64) -> Result<u64> {
        Ok(compare_exchange(&self.core.shared, &mut self.own_cells, cell, current, new))
    }

    fn get(&mut self, key: String) -> Result<Option<(Vec<u8>, u64)>> {
        let found = self.core.shared.values().get(&key, || self.core.now());
        Ok(found.map(|(bytes, version)| (bytes.to_vec(), version)))
    }

    fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        version: Option<u64>,
    ) -> Result<std::result::Result<u64, SharedError>> {
        Ok(self.core.shared.values().put(&key, &value, version).map_err(not_written))
    }

    fn remember(
        &mut self,
        key: String,
        value: Vec<u8>,
        version: Option<u64>,
        max_age: u64,
    ) -> Result<std::result::Result<u64, SharedError>> {
        let now = self.core.now();
        Ok(self.core.shared.values().remember(&key, &value, version, now, max_age).map_err(not_written))
    }

    fn delete(&mut self, key: String) -> Result<()> {
        self.core.shared.values().delete(&key);
        Ok(())
    }
}

fn not_written(why: NotWritten) -> SharedError {
    match why {
        NotWritten::Full => SharedError::Full,
        NotWritten::Conflict => SharedError::Conflict,
    }
}
