//! The inspection commands: what the memory manager knows, under /proc's names and units where
//! Linux has the file. They take the locks they need one at a time and print with at most one of
//! them held.

use crate::shell::{Command, no_words};

mod control;
mod frames;
#[cfg(feature = "lab")]
mod inject;
mod memory;
mod migrate;
mod spaces;
mod thp;

pub use control::knob;

/// Every inspection command.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "meminfo",
        help: "how memory is used; every page accounted for",
        usage: "\nIn kB, as /proc/meminfo. The uses at the end add up to MemTotal.",
        run: memory::meminfo,
        words: no_words,
    },
    Command {
        name: "drop_caches",
        help: "drop what is clean from the page cache of files",
        usage: "\nAs /proc/sys/vm/drop_caches with 1. What is dirty or in use stays.",
        run: memory::drop_caches,
        words: no_words,
    },
    Command {
        name: "buddyinfo",
        help: "free blocks of each order",
        usage: "\nAs /proc/buddyinfo: the number of free blocks of order 0 to 10, and the pages in per-CPU lists.",
        run: memory::buddyinfo,
        words: no_words,
    },
    Command {
        name: "vmstat",
        help: "event counters",
        usage: "[--watch] [--secs N]\n\
                Events since boot, as /proc/vmstat; names that Linux does not have begin with quire_.\n\
                --watch prints every second what has changed, until Ctrl-C or for N seconds.",
        run: memory::vmstat,
        words: || alloc::vec!["--watch", "--secs"],
    },
    Command {
        name: "folio",
        help: "what is known of one page frame",
        usage: "PFN\nUse, flags, counts, and whose page it is. PFN is decimal or 0x….",
        run: frames::folio,
        words: no_words,
    },
    Command {
        name: "rmap",
        help: "who maps a page frame",
        usage: "PFN\nWalks the reverse mapping: every area that may map the folio, and the entry found there.",
        run: frames::rmap,
        words: no_words,
    },
    Command {
        name: "maps",
        help: "the areas of address spaces",
        usage: "[MM]\nAs /proc/PID/maps. MM is an address space's number; without it, all of them.",
        run: spaces::maps,
        words: no_words,
    },
    Command {
        name: "smaps",
        help: "the areas, with what is resident and swapped",
        usage: "[MM]\nAs /proc/PID/smaps, in kB.",
        run: spaces::smaps,
        words: no_words,
    },
    Command {
        name: "pagemap",
        help: "the page-table entries of address spaces",
        usage: "[MM] [START [PAGES]]\n\
                One line for each entry that is not empty: address, frame or swap slot, bits. START is a\n\
                virtual address; at most PAGES (64) entries are printed.",
        run: spaces::pagemap,
        words: no_words,
    },
    Command {
        name: "migrate",
        help: "move pages of address spaces to other frames",
        usage: "[MM [START [PAGES]]]\n\
                Moves the anonymous pages that are mapped in the range (without it: everywhere), as\n\
                move_pages(2) with MPOL_MF_MOVE_ALL, and says how many stayed, and why.",
        run: migrate::migrate,
        words: no_words,
    },
    Command {
        name: "thp",
        help: "where huge pages are used",
        usage: "[always|madvise|never]\n\
                As /sys/kernel/mm/transparent_hugepage/enabled: shows the policy, or changes it. Huge pages\n\
                that are mapped stay.",
        run: thp::thp,
        words: thp::names,
    },
    Command {
        name: "tlb",
        help: "which address space each CPU has loaded, and shootdown counters",
        usage: "\nA lazy CPU runs a kernel thread on the root of the address space before it.",
        run: spaces::tlb,
        words: no_words,
    },
    Command {
        name: "swap",
        help: "the swap disk: slots, errors; mkswap, swapon, swapoff; the machine's disks",
        usage: "[mkswap|on|off]\n\
                Sizes in kB, as /proc/swaps, and the counts of failed requests and bad slots. mkswap writes a\n\
                header to the disk (what is on it is lost); on and off start and stop swapping.",
        run: memory::swap,
        words: || alloc::vec!["mkswap", "on", "off"],
    },
    Command {
        name: "locks",
        help: "the lock table, and how often locks were contended",
        usage: "\nOutermost first: a thread takes locks downwards only. Contended: had to wait; slept: went to\n\
                sleep for it. Counted since boot, over all locks of a rank.",
        run: control::locks,
        words: no_words,
    },
    Command {
        name: "fix",
        help: "show or set the fix switches: rules of order that can be broken on purpose",
        usage: "[K [on|off]]\nWithout a name: all switches. Off breaks the rule until it is on again.",
        run: control::fix,
        words: control::knob_names,
    },
    #[cfg(feature = "lab")]
    Command {
        name: "fault-inject",
        help: "make requests to a disk fail",
        usage: "[swap|data] [read|write|flush [SECTOR[+COUNT]] [--times N] | clear]\n\
                Requests that overlap the sectors (512 bytes each; without them: any) fail, N of them or for\n\
                ever. Without the disk's name: the swap disk. Without a verb: the rules, and how many requests each\n\
                has failed.",
        run: inject::fault_inject,
        words: || alloc::vec!["swap", "data", "read", "write", "flush", "clear", "--times"],
    },
    Command {
        name: "poweroff",
        help: "end the machine",
        usage: "\nThe machine ends with the status of the first command that failed.",
        run: control::poweroff,
        words: no_words,
    },
    Command {
        name: "exit",
        help: "end the machine, as poweroff and Ctrl-D do",
        usage: "",
        run: control::poweroff,
        words: no_words,
    },
];
