//! What the console's inspection, the self-tests and the explorer's oracles may see of frames,
//! lists and CPUs: the one way from outside to modules that are the memory manager's own.
//!
//! Nothing here changes a record, a list or an entry. ([`Held`] and [`HeldToWrite`] are what
//! lockless walkers hand out, named so that a caller can keep one.) Address spaces and folios as
//! wholes are looked at through [`view`](crate::view), which holds what the look relies on. Takes
//! no lock but as each item says.

pub use crate::frame::{Frame, NIL, block_of, flag, frame, max_pfn};
pub use crate::lru::{Counts as LruCounts, counts as lru_counts};
pub use crate::pt::tlb::cpu_state;
pub use crate::pt::walk::{Held, HeldToWrite};
