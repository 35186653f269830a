//! What a plugin has learned goes to the version that replaces it.

/// Carries state over a swap. Exported with `export!(… + handover)`; any kind of plugin may.
///
/// A rewriter that numbers requests, and goes on where the version before it ended:
///
/// ```
/// use staunch_plugin::{
///     Config, FieldEdit, Handover, Invalid, RequestAction, RequestRewriter, Rewriter, RewriterNeeds, Wanted,
/// };
///
/// struct Numbering {
///     last: u64,
/// }
///
/// impl Rewriter for Numbering {
///     fn configure(_: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
///         Ok(Self { last: 0 })
///     }
/// }
///
/// impl RequestRewriter for Numbering {
///     fn on_request(&mut self, _: &Wanted) -> RequestAction {
///         self.last += 1;
///         RequestAction::Fields(vec![FieldEdit::set("x-number", self.last.to_string())])
///     }
/// }
///
/// impl Handover for Numbering {
///     fn save(&mut self) -> Vec<u8> {
///         // A version of the format comes first, for the plugin that will have another.
///         [&[1], &self.last.to_le_bytes()[..]].concat()
///     }
///
///     fn restore(&mut self, state: &[u8]) {
///         if let [1, last @ ..] = state
///             && let Ok(last) = last.try_into()
///         {
///             self.last = u64::from_le_bytes(last);
///         }
///     }
/// }
///
/// staunch_plugin::export!(rewriter: Numbering + request + handover);
///
/// use staunch_plugin::testing::Host;
///
/// let host = Host::new();
/// let mut before = host.rewriter::<Numbering>().unwrap();
/// before.on_request(&host.wanted_of_request());
/// let mut after = host.rewriter::<Numbering>().unwrap();
/// after.restore(&before.save());
///
/// let numbered = RequestAction::Fields(vec![FieldEdit::set("x-number", "2")]);
/// assert_eq!(after.on_request(&host.wanted_of_request()), numbered);
/// after.restore(b"what nobody knows");
/// assert_eq!(after.last, 2);
/// ```
pub trait Handover: Sized + 'static {
    /// The state to carry, at most 1 MiB. Called once, when another instance is about to take this one's place. Has
    /// 10 ms of CPU time.
    fn save(&mut self) -> Vec<u8>;

    /// Takes what `save` answered on the instance before, which may have been of another version of the plugin: what
    /// is not understood is to be ignored. Called once the plugin is configured and knows its endpoints.
    fn restore(&mut self, state: &[u8]);
}
