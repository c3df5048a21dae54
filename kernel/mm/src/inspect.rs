//! What the console's inspection, the self-tests and the explorer's oracles may see of frames,
//! lists and CPUs: the one way from outside to modules that are the memory manager's own.
//!
//! Only reads. Address spaces and folios as wholes are looked at through [`view`](crate::view),
//! which holds what the look relies on. Takes no lock but as each item says.

pub use crate::frame::{Frame, NIL, flag, frame, max_pfn, valid};
pub use crate::lru::{Counts, counts};
pub use crate::pt::tlb::{CEILING, cpu_state};
pub use crate::pt::walk::{Held, HeldToWrite};
