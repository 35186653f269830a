//! State that the instances of one use share over all workers, and that outlives each of them: cells and values.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use crate::plugins::values::Values;

/// Cells one use may have.
pub(super) const MAX_CELLS: usize = 1024;
/// Bytes a cell's name may have; a longer one is past the quota.
const MAX_NAME: usize = 256;

/// The shared state of one use.
#[derive(Debug)]
pub(super) struct Shared {
    names: Mutex<HashMap<String, u32>>,
    cells: OnceLock<Box<[AtomicU64]>>,
    /// Locked for a look-up at a time: plugins that share values on the request path share this wait too.
    values: Mutex<Values>,
}

impl Shared {
    /// With values of together `quota` bytes.
    pub(super) fn new(quota: usize) -> Self {
        Self { names: Mutex::default(), cells: OnceLock::new(), values: Mutex::new(Values::new(quota)) }
    }

    /// The handle of a named cell; `None` past the quota.
    pub(super) fn cell(&self, name: &str) -> Option<u32> {
        let mut names = self.names.lock();
        if let Some(&id) = names.get(name) {
            return Some(id);
        }
        if names.len() >= MAX_CELLS || name.len() > MAX_NAME {
            return None;
        }
        let id = u32::try_from(names.len()).ok()?;
        names.insert(name.to_owned(), id);
        Some(id)
    }

    /// A cell by its handle; `None` for a handle nobody gave out.
    pub(super) fn slot(&self, id: u32) -> Option<&AtomicU64> {
        self.cells.get_or_init(|| (0..MAX_CELLS).map(|_| AtomicU64::new(0)).collect()).get(id as usize)
    }

    /// The values, for one look-up.
    pub(super) fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock()
    }
}

/// Cells of one instance alone: what is named past the quota.
#[derive(Debug, Default)]
pub(super) struct OwnCells {
    names: HashMap<String, u32>,
    cells: Vec<u64>,
}

/// The first handle of an [`OwnCells`].
const FIRST_OWN: u32 = 1 << 16;

impl OwnCells {
    /// The handle of a named cell. Past [`MAX_CELLS`] all names mean the last one.
    pub(super) fn cell(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.names.get(name) {
            return id;
        }
        if self.cells.len() < MAX_CELLS && name.len() <= MAX_NAME {
            self.names.insert(name.to_owned(), FIRST_OWN + self.cells.len() as u32);
            self.cells.push(0);
        } else if self.cells.is_empty() {
            self.cells.push(0);
        }
        FIRST_OWN + (self.cells.len() - 1) as u32
    }

    pub(super) fn slot(&mut self, id: u32) -> Option<&mut u64> {
        self.cells.get_mut(id.checked_sub(FIRST_OWN)? as usize)
    }
}

/// What a plugin may do to a cell, shared or its own. A handle nobody gave out reads 0 and keeps nothing.
pub(super) fn load(shared: &Shared, own: &mut OwnCells, id: u32) -> u64 {
    match shared.slot(id) {
        Some(cell) => cell.load(Relaxed),
        None => own.slot(id).map_or(0, |cell| *cell),
    }
}

pub(super) fn fetch_add(shared: &Shared, own: &mut OwnCells, id: u32, amount: u64) -> u64 {
    match (shared.slot(id), own.slot(id)) {
        (Some(cell), _) => cell.fetch_add(amount, Relaxed),
        (None, Some(cell)) => std::mem::replace(cell, cell.wrapping_add(amount)),
        (None, None) => 0,
    }
}

pub(super) fn compare_exchange(shared: &Shared, own: &mut OwnCells, id: u32, current: u64, new: u64) -> u64 {
    match (shared.slot(id), own.slot(id)) {
        (Some(cell), _) => cell.compare_exchange(current, new, Relaxed, Relaxed).unwrap_or_else(|found| found),
        (None, Some(cell)) if *cell == current => std::mem::replace(cell, new),
        (None, Some(cell)) => *cell,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_cell_until_the_quota_is_used_up() {
        let shared = Shared::new(1024);

        for i in 0..MAX_CELLS {
            assert_eq!(shared.cell(&format!("c{i}")), Some(i as u32));
        }

        assert_eq!(shared.cell("c7"), Some(7));
        assert_eq!(shared.cell("one more"), None);
    }

    #[test]
    fn cells_past_the_quota_are_the_instances_own() {
        let (shared, mut own) = (Shared::new(1024), OwnCells::default());

        let (a, b) = (own.cell("a"), own.cell("b"));
        assert_eq!(own.cell("a"), a);
        fetch_add(&shared, &mut own, a, 5);
        assert_eq!(compare_exchange(&shared, &mut own, a, 5, 9), 5);
        assert_eq!(compare_exchange(&shared, &mut own, a, 5, 1), 9);

        assert_eq!((load(&shared, &mut own, a), load(&shared, &mut own, b)), (9, 0));
        assert_eq!(load(&shared, &mut own, 60_000), 0);
        assert_eq!(fetch_add(&shared, &mut own, u32::MAX, 1), 0);
    }

    #[test]
    fn names_without_end_share_one_own_cell() {
        let mut own = OwnCells::default();

        for i in 0..3 * MAX_CELLS {
            own.cell(&i.to_string());
        }

        assert_eq!((own.cells.len(), own.names.len()), (MAX_CELLS, MAX_CELLS));
        assert_eq!(OwnCells::default().cell(&"x".repeat(MAX_NAME + 1)), FIRST_OWN);
    }
}
