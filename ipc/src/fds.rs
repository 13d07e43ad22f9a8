//! Descriptors that PID 1 leaves open for the processes it starts, by number.

/// The link to PID 1.
pub const INIT: i32 = 3;
/// The first link to a partner; more follow.
pub const PARTNERS: i32 = 4;
/// The link between supervisor and netsetup (only in these two). In api, [`PARTNERS`] is
/// its link to the supervisor, which receives its end as [`crate::API_LINK`].
pub const NET: i32 = PARTNERS;
