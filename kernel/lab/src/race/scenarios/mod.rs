//! The scenarios by name.

mod alone;
mod areas;
mod damage;
mod disks;
mod family;
mod files;
mod flushes;
mod huge;
mod looks;
mod memory;
mod migration;
mod moves;
mod msync;
mod opening;
mod planted;
mod play;
mod pressure;
mod random;
mod random_all;
mod random_files;
mod reclaim;
mod refused;
mod resized;
mod shootdown;
mod swapping;
mod writers;

use super::scenario::Scenario;

/// Every scenario that must hold, in the order of `race list`.
pub static ALL: &[&dyn Scenario] = &[
    &shootdown::GATHER_ORDER,
    &shootdown::FORK_VS_WRITE,
    &shootdown::COW_VS_COW,
    &shootdown::CROSSED_SHOOTDOWNS,
    &shootdown::FAULT_VS_FAULT,
    &shootdown::TABLE_FREE,
    &reclaim::SWAPOUT_VS_FAULT,
    &reclaim::SWAPOUT_VS_FORK,
    &reclaim::MUNMAP_VS_RECLAIM,
    &reclaim::SWAPIN_VS_SWAPIN,
    &reclaim::FREE_VS_WRITE,
    &reclaim::EMPTIED_VS_FAULT,
    &reclaim::MPROTECT_VS_RECLAIM,
    &reclaim::MREMAP_VS_RECLAIM,
    &reclaim::FORK_VS_RECLAIM,
    &reclaim::FREE_VS_RECLAIM,
    &reclaim::REAP_VS_SWAPIN,
    &reclaim::REAP_VS_COW,
    &alone::HALF_UNMAPPED,
    &alone::SWAPIN_VS_ZAP,
    &alone::COW_VS_ZAP,
    &alone::MPROTECT_VS_ZAP,
    &alone::FREE_VS_WALKER,
    &alone::PAGEOUT_VS_WALKER,
    &alone::FORK_VS_WALKER,
    &alone::SLOT_USED_AGAIN,
    &huge::HUGE_FAULT_VS_FAULT,
    &huge::HUGE_ZAP_VS_FAULT,
    &huge::HUGE_MPROTECT_VS_WRITE,
    &huge::SPLIT_PMD_VS_FAULT,
    &huge::SPLIT_PMD_VS_MPROTECT,
    &huge::FORK_VS_SPLIT,
    &huge::MREMAP_VS_SPLIT,
    &huge::UNMAP_PART_VS_FAULT,
    &huge::SPLIT_VS_RECLAIM,
    &huge::MREMAP_VS_RECLAIMED,
    &huge::HUGE_ZAP_VS_LOAD,
    &huge::EXIT_VS_SPLIT,
    &huge::SPLIT_VS_WALKER,
    &files::WRITE_VS_SYNC,
    &files::SYNC_VS_SYNC,
    &files::MKWRITE_VS_WRITEBACK,
    &files::ZAP_VS_MKCLEAN,
    &files::DROP_VS_MKCLEAN,
    &files::RECLAIM_VS_MKCLEAN,
    &files::ZAP_VS_SYNC,
    &files::MREMAP_VS_MKCLEAN,
    &files::ZAP_KEEPS_RMAP,
    &files::TRUNCATE_VS_FAULT,
    &files::TRUNCATE_VS_COPY,
    &files::TRUNCATE_VS_MPROTECT,
    &files::DROP_VS_DROP,
    &files::TRUNCATE_VS_MREMAP,
    &files::REAP_VS_AROUND,
    &files::PUNCH_VS_FAULT,
    &files::PUNCH_VS_COPY,
    &files::PUNCH_VS_AROUND,
    &memory::SHMEM_OUT_VS_FAULT,
    &memory::SHMEM_IN_VS_IN,
    &memory::SHMEM_OUT_VS_PUNCH,
    &memory::SHMEM_OUT_VS_COPY,
    &pressure::KSWAPD_VS_STORE,
    &pressure::KSWAPD_VS_ZAP,
    &pressure::DIRECT_VS_STORE,
    &pressure::DIRECT_VS_FILE,
    &pressure::OOM_VS_FAULT,
    &pressure::OOM_VS_OOM,
    &pressure::OOM_VS_MUNMAP,
    &swapping::SWAPOFF_VS_FAULT,
    &swapping::SWAPOFF_VS_FORK,
    &swapping::SWAPOFF_VS_ZAP,
    &swapping::SWAPOFF_VS_RECLAIM,
    &swapping::SWAPOFF_VS_SHMEM,
    &swapping::SWAPOFF_VS_SWAPOFF,
    &swapping::SWAPOFF_FAILING,
    &swapping::SWAPON_VS_RECLAIM,
    &swapping::READAHEAD_VS_FAULT,
    &swapping::READAHEAD_VS_ZAP,
    &swapping::READAHEAD_VS_RECLAIM,
    &writers::FLUSHER_VS_STORE,
    &writers::FLUSHER_VS_TRUNCATE,
    &writers::READ_VS_WRITE,
    &writers::READ_VS_TRUNCATE,
    &writers::GROW_VS_STORE,
    &writers::MSYNC_VS_MUNMAP,
    &writers::RECLAIM_VS_READ,
    &refused::FORK_REFUSED,
    &refused::MUNMAP_REFUSED,
    &refused::MPROTECT_REFUSED,
    &refused::MREMAP_REFUSED,
    &refused::MMAP_REFUSED,
    &refused::FAULT_REFUSED,
    &refused::SWAPIN_REFUSED,
    &refused::FILE_REFUSED,
    &looks::LOOK_VS_MUNMAP,
    &looks::LISTS_VS_DRAIN,
    &opening::OPEN_VS_OPEN,
    &opening::EXTENTS_VS_READ,
    &opening::FORGET_VS_READ,
    &opening::MKSWAP_VS_SWAPON,
    &areas::MPROTECT_CUTS,
    &areas::MPROTECT_JOINS,
    &areas::MUNMAP_MIDDLE,
    &areas::SHRINK_AND_GROW,
    &areas::MPROTECT_VS_TWO,
    &areas::FIXED_VS_TWO,
    &areas::STACK_VS_STACK,
    &areas::STACK_VS_MMAP,
    &moves::MREMAP_OVER,
    &moves::MREMAP_TABLE,
    &moves::MREMAP_TWICE,
    &moves::MREMAP_VS_TWO,
    &resized::MREMAP_GROW_MOVES,
    &resized::MREMAP_GROW_STAYS,
    &resized::MREMAP_WRONG,
    &resized::MREMAP_SHORTER,
    &resized::MREMAP_TABLE_OVER,
    &resized::MREMAP_ACROSS,
    &resized::MREMAP_TWICE_ANYWHERE,
    &resized::MREMAP_OVER_REFUSED,
    &family::FORK_VS_FIRST_STORE,
    &family::FORK_VS_LAZY_STORE,
    &family::LAZY_VS_ZAP,
    &family::LAZY_VS_RECLAIM,
    &family::GRANDCHILD,
    &family::FORK_OF_FORK,
    &family::TRUNCATE_VS_FORK,
    &family::TRUNCATE_VS_FORK_VS_COPY,
    &family::EXIT_VS_RECLAIM,
    &family::EXIT_VS_TRUNCATE,
    &family::EXIT_VS_LAZY,
    &family::LOOKS_VS_MUNMAP,
    &flushes::FLUSH_BESIDE_BATCH,
    &flushes::FLUSH_AFTER_BATCH,
    &flushes::WILLNEED_VS_DROP,
    &flushes::COLD_VS_RECLAIM,
    &msync::MSYNC_VS_STORE,
    &msync::MSYNC_VS_ZAP,
    &msync::MSYNC_VS_TRUNCATE,
    &msync::MSYNC_OVER_HOLE,
    &migration::MIGRATE_VS_FAULT,
    &migration::MIGRATE_VS_ZAP,
    &migration::MIGRATE_VS_FORK,
    &migration::MIGRATE_VS_COW,
    &migration::MIGRATE_VS_WALKER,
    &migration::MIGRATE_VS_HELD,
    &migration::MIGRATE_VS_RECLAIM,
    &migration::MIGRATE_VS_SWAPIN,
    &migration::MIGRATE_VS_READAHEAD,
    &migration::MIGRATE_VS_MREMAP,
    &migration::MIGRATE_VS_MPROTECT,
    &migration::MIGRATE_VS_FREE,
    &migration::MIGRATE_VS_MIGRATE,
    &migration::MIGRATE_VS_EXIT,
    &migration::MIGRATE_REFUSED,
    &disks::SWAPOUT_FAILING,
    &disks::SHMEM_OUT_FAILING,
    &disks::WRITE_FAILING,
    &disks::SYNC_FAILING,
    &disks::SYNC_OVERTAKING,
    &disks::MKWRITE_HALVES,
    &disks::SHMEM_IN_FAILING,
    &disks::SWAPIN_UNREADABLE,
    &disks::SWAPIN_FAILING,
];

/// Those that want more CPUs than the usual machine has (`--cpus 5`), or more time than the others:
/// by name only.
pub static WIDE: &[&dyn Scenario] = &[
    &alone::TWO_RECLAIMERS,
    &family::FORK_VS_STORE_VS_RECLAIM,
    &disks::MKWRITE_FAILING,
    &disks::ZAP_FAILING,
    &disks::SWAPOUT_OVERTAKING,
];

/// Of [`ALL`], those whose fixes are missed only after thousands of runs. A hand-over costs far
/// more in the kernel, where they are by name only.
const LONG: [&str; 4] = [
    "mremap-vs-mkclean",
    "mremap-table-vs-mkclean",
    "munmap-middle-vs-sync",
    "truncate-vs-fork-vs-copy",
];

/// What `all` means on this machine.
pub fn all() -> impl Iterator<Item = &'static dyn Scenario> {
    let fits = |s: &&dyn Scenario| !cfg!(target_os = "none") || !LONG.contains(&s.name());
    ALL.iter().copied().filter(fits)
}

/// Those as well that [`all`] leaves out for their time or their CPUs.
pub fn full() -> impl Iterator<Item = &'static dyn Scenario> {
    ALL.iter().chain(WIDE).copied()
}

/// Scenarios with a bug that no fix takes away, for the explorer's own tests, and what the verdict
/// must say of them.
pub static PLANTED: &[(&dyn Scenario, &str)] = &[
    (&planted::LOST_UPDATE, "an update was lost"),
    (&planted::DEADLOCK, "cycle A -> B -> A"),
    (&planted::LIVELOCK, "livelock: "),
    (&planted::STARVED, "livelock: "),
    #[cfg(not(target_os = "none"))]
    (&planted::PANIC, "panic: the word changed on the way"),
    (&planted::DISK_FAILS, "refused: sync: Io"),
    (&planted::DISK_OVERTAKES, "came before byte 0"),
    (&planted::DISK_HALVES, "half of the page is on the disk"),
    (&damage::LEAK, "accounting: "),
    (&damage::MISCOUNT, "accounting: "),
    (&damage::TOTAL_VM, "pages in areas; counted are"),
    (&damage::TABLES, "page tables; counted are"),
    (&damage::UNLISTED, "lru: "),
    (&damage::BESIDE, "content: "),
    (&damage::BACK, "content: "),
    (&damage::FILE_BACK, "file: "),
    #[cfg(debug_assertions)]
    (&damage::LOCK, "locks: A has ended and holds"),
];

/// Schedules that failed once with every fix on, and must pass: a search found them.
pub static REGRESSIONS: &[(&str, &str)] = &[
    // B found the slot marked by A and no folio in the cache yet, and looked again and again.
    ("slot-marked", "v1:swapin-vs-swapin:-:1:A7.B6"),
    // B had given the slot up and not changed the entry yet; A faulted on it again and again.
    ("slot-given-up", "v1:random:-:63:B27.I1.B13.H2.B4.A1"),
];

/// Scenarios that are others with each seed: of anonymous memory, the same with threads and a
/// child, of files, of all that there is with three actors, and with four.
pub static RANDOM: [&dyn Scenario; 5] = [
    &random::RANDOM,
    &random::RANDOM_FAMILY,
    &random_files::RANDOM_FILES,
    &random_all::RANDOM_ALL,
    &random_all::RANDOM_WIDE,
];

/// Every scenario, the planted ones last.
pub fn every() -> impl Iterator<Item = &'static dyn Scenario> {
    let planted = PLANTED.iter().map(|p| p.0);
    let wide = WIDE.iter().copied();
    ALL.iter().copied().chain(wide).chain(RANDOM).chain(planted)
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static dyn Scenario> {
    every().find(|s| s.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_fit_into_a_schedule() {
        let names: Vec<&str> = every().map(|s| s.name()).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name} twice");
            assert!(algo::explore::Schedule::new(name, &[], 0).is_ok(), "{name}");
            assert_eq!(find(name).map(|s| s.name()), Some(*name));
        }
        assert!(find("all").is_none() && find("").is_none());
        assert!(LONG.iter().all(|name| names[..ALL.len()].contains(name)));
    }

    #[test]
    fn there_are_letters_for_the_actors() {
        for s in every() {
            assert!((1..=4).contains(&s.actors()), "{}", s.name());
            assert!(!s.about().contains('\n'), "{}", s.name());
        }
    }
}
