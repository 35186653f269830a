//! What a plugin has learned goes to the version that replaces it.

/// Carries state over a swap. Exported with `export!(… + handover)`; any kind of plugin may.
pub trait Handover: Sized + 'static {
    /// The state to carry, at most 1 MiB. Called once, when another instance is about to take this one's place. Has
    /// 10 ms of CPU time.
    fn save(&mut self) -> Vec<u8>;

    /// Takes what `save` answered on the instance before, which may have been of another version of the plugin: what
    /// is not understood is to be ignored. Called once the plugin is configured and knows its endpoints.
    fn restore(&mut self, state: &[u8]);
}
