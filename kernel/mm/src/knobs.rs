//! The fix switches: each rule of order that a test may break on purpose.
//!
//! Every knob is on by default. Without the `lab` feature [`on`] is the constant `true`: the fixed path
//! is compiled in and costs nothing. Takes no lock.

macro_rules! knobs {
    ($($name:ident = $text:literal, rule $rule:literal, $help:literal);* $(;)?) => {
        /// One switch.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Knob { $(#[doc = $help] $name),* }
        impl Knob {
            /// Every knob: itself, the name that `fix` takes, the rule of order it belongs to, what it does.
            pub const ALL: &'static [(Knob, &'static str, u8, &'static str)] =
                &[$((Knob::$name, $text, $rule, $help)),*];
        }
    };
}

knobs! {
    TlbFlush = "tlb_flush", rule 1, "the gather flushes every CPU before it frees frames";
    TableFlush = "table_flush", rule 5, "page-table pages are freed only after the shootdown IPI";
    WpFlush = "wp_flush", rule 3, "fork and mprotect flush after taking the write bit away";
    PmdRecheck = "pmd_recheck", rule 4, "a table is installed under the pmd lock after looking again";
    AckIrqsOn = "ack_irqs_on", rule 6, "interrupts stay on while waiting for an acknowledgement";
    ReclaimFlush = "reclaim_flush", rule 1, "reclaim flushes every CPU between unmapping and writing or freeing";
    SlotBeforePte = "slot_before_pte", rule 7, "the folio is in the swap cache before its entry names the slot";
    CowFlush = "cow_flush", rule 1, "a copy on write flushes every CPU before the copy is mapped";
    BatchedPending = "batched_pending", rule 1, "operations flush first what reclaim has put off";
    LazyFlush = "lazy_flush", rule 3, "MADV_FREE flushes after clearing dirty bits";
    PteRecheck = "pte_recheck", rule 4, "a fault looks at the entry again under its lock";
    SwapinWait = "swapin_wait", rule 7, "a page is mapped only after it was read from the disk";
    FreeAfterWrite = "free_after_write", rule 7, "a frame is freed only after its swap write has succeeded";
}

impl Knob {
    /// The name that `fix` takes.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
    /// The knob of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|k| k.1 == name).map(|k| k.0)
    }
}

#[cfg(feature = "lab")]
mod switch {
    use super::Knob;
    use core::sync::atomic::{AtomicU64, Ordering};
    static OFF: AtomicU64 = AtomicU64::new(0);

    /// Whether the rule is kept.
    #[inline]
    pub fn on(k: Knob) -> bool {
        OFF.load(Ordering::Relaxed) & (1 << k as u8) == 0
    }
    /// Keeps (`true`) or breaks the rule from now on. Returns what it was.
    pub fn set(k: Knob, on: bool) -> bool {
        let bit = 1 << k as u8;
        let was = if on {
            OFF.fetch_and(!bit, Ordering::Relaxed)
        } else {
            OFF.fetch_or(bit, Ordering::Relaxed)
        };
        was & bit == 0
    }
}

#[cfg(not(feature = "lab"))]
mod switch {
    use super::Knob;
    /// Whether the rule is kept: always.
    #[inline(always)]
    pub const fn on(_: Knob) -> bool {
        true
    }
}

pub use switch::*;
