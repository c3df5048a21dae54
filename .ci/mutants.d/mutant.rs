//! Which mutant of the memory manager is on: the number in the environment's QUIRE_MUTANT; without
//! it none. `.ci/mutants` puts this file into `sync` of its copy of the tree.

use std::sync::LazyLock;

static ON: LazyLock<u32> = LazyLock::new(|| {
    let number = std::env::var("QUIRE_MUTANT").ok();
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
});

/// Mutant `number` is on.
#[inline]
pub fn on(number: u32) -> bool {
    *ON == number
}
