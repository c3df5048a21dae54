//! Tests against toy programs, with plain enumeration as the truth.

mod judge;
mod random;
mod search;
mod strings;
mod toy;
