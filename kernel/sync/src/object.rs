//! Names for what steps touch: a number from a class and an address, or whatever else tells two
//! things of the class apart.
//!
//! Takes no lock.

/// A number for a thing of class `class` that is known by `key`, an address for instance. Two
/// things with one number only make the search do more than it has to.
#[inline]
pub const fn object(class: u8, key: u64) -> u32 {
    let mixed = (key ^ (class as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

/// The number of the thing at `at`.
#[inline]
pub fn object_at<T: ?Sized>(class: u8, at: &T) -> u32 {
    object(class, core::ptr::from_ref(at).cast::<()>().addr() as u64)
}

/// Classes of [`object`]s.
pub mod class {
    /// A lock, by its address.
    pub const LOCK: u8 = 1;
    /// A page-table cell, by its address.
    pub const CELL: u8 = 2;
    /// A count of references or mappings, by its address.
    pub const COUNT: u8 = 3;
    /// A frame's record but for counts and links, by its address.
    pub const FLAGS: u8 = 4;
    /// A frame's content, by its number.
    pub const CONTENT: u8 = 5;
    /// A thread's sleep, by its number.
    pub const SLEEP: u8 = 6;
    /// A CPU's mailbox, by its number.
    pub const MAILBOX: u8 = 7;
    /// A CPU's interrupt flag, by its number.
    pub const IRQ: u8 = 8;
    /// A CPU's translations, by its number.
    pub const TLB: u8 = 9;
    /// An address space's record of who may hold translations of it, by its address; its other
    /// words that are read without a lock, by theirs.
    pub const SPACE: u8 = 10;
    /// What a TLB request waits for, by its address.
    pub const ACKS: u8 = 11;
    /// A disk's queue.
    pub const DISK: u8 = 12;
    /// Whatever a scenario names.
    pub const OWN: u8 = 13;
    /// An anon_vma's counts and whose family it is, by its address.
    pub const ANON: u8 = 14;
    /// What of the swap area and of reclaim is read without a lock, by its address.
    pub const SWAP: u8 = 15;
    /// A swap slot's place in the swap cache, by its number.
    pub const SLOT: u8 = 16;
    /// What of a file is read without a lock: its size, its users, its errors; by its address.
    pub const FILE: u8 = 17;
}

#[cfg(test)]
mod tests {
    use super::{class, object};
    use std::collections::HashSet;

    #[test]
    fn things_of_different_classes_have_different_numbers() {
        let classes = [
            class::LOCK,
            class::CELL,
            class::COUNT,
            class::FLAGS,
            class::CONTENT,
            class::SLEEP,
            class::MAILBOX,
            class::IRQ,
            class::TLB,
            class::SPACE,
            class::ACKS,
            class::DISK,
            class::OWN,
            class::ANON,
            class::SWAP,
            class::SLOT,
            class::FILE,
        ];
        let numbers: HashSet<u32> = classes.iter().map(|c| object(*c, 7)).collect();
        assert_eq!(numbers.len(), classes.len());
    }
}
