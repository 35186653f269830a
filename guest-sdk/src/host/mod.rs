//! The seam to the host: the contract's imports in a plugin, [`crate::testing`] in a native build.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::doubles::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use imports::*;

#[cfg(target_arch = "wasm32")]
mod imports;
