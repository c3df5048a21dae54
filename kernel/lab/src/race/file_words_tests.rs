use super::*;

const WORD: FileWord = FileWord {
    file: 0,
    at: 4096 + 16,
};

fn change(bytes: Range<u64>, data: Option<u64>, drops: bool) -> Change {
    Change {
        file: 0,
        bytes,
        data,
        drops,
        size: None,
    }
}

fn values(f: &Files) -> Vec<u64> {
    let mut all = f.values(WORD);
    all.sort_unstable();
    all
}

#[test]
fn what_is_on_its_way_may_be_there_or_not() {
    let mut f = Files::new();
    f.begin_with(WORD, 1);
    assert_eq!(values(&f), [1]);
    let token = f.begin(change(WORD.at..WORD.at + 8, Some(2), false));
    assert_eq!(values(&f), [1, 2]);
    f.finish(&token, WORD.at..WORD.at + 8, Wrote::All);
    assert_eq!(values(&f), [2]);
    assert!(f.wrong(WORD, 1).is_some() && f.wrong(WORD, 2).is_none());
    assert!(f.ever(WORD, 1), "a copy may be old");
}

#[test]
fn a_hole_is_zero_or_what_was_stored_since_it_began() {
    let mut f = Files::new();
    f.begin_with(WORD, 1);
    let hole = f.begin(change(4096..8192, None, true));
    f.store(WORD, 2);
    assert_eq!(values(&f), [0, 1, 2]);
    let moment = f.moment();
    f.finish(&hole, 4096..8192, Wrote::All);
    assert_eq!(values(&f), [0, 2]);
    let mut before = f.values_since(WORD, moment);
    before.sort_unstable();
    before.dedup();
    assert_eq!(before, [0, 1, 2], "what a sync that began then may find");
    f.seen(WORD, 0);
    assert_eq!(values(&f), [0]);
}

#[test]
fn a_change_may_begin_and_end_within_a_word() {
    let mut f = Files::new();
    f.begin_with(WORD, 0x1122_3344_5566_7788);
    let hole = f.begin(change(WORD.at + 4..WORD.at + 6, None, true));
    f.finish(&hole, WORD.at + 4..WORD.at + 6, Wrote::All);
    assert_eq!(values(&f), [0x1122_0000_5566_7788]);
    let write = f.begin(change(
        WORD.at - 4..WORD.at + 4,
        Some(0xaabb_ccdd_0000_0000),
        false,
    ));
    f.finish(&write, WORD.at - 4..WORD.at + 2, Wrote::All);
    assert_eq!(values(&f), [0x1122_0000_5566_ccdd]);
}

#[test]
fn of_two_that_change_parts_either_may_be_the_last() {
    let mut f = Files::new();
    f.begin_with(WORD, 0x1111_2222_3333_4444);
    let hole = f.begin(change(WORD.at..WORD.at + 8, None, true));
    let write = f.begin(change(WORD.at + 4..WORD.at + 12, Some(0x5555_6666), false));
    f.finish(&write, WORD.at + 4..WORD.at + 12, Wrote::All);
    f.finish(&hole, WORD.at..WORD.at + 8, Wrote::All);
    let may_be = values(&f);
    assert!(may_be.contains(&0) && may_be.contains(&0x5555_6666_0000_0000));
    assert!(!may_be.contains(&0x1111_2222_3333_4444));
}

#[test]
fn a_write_that_failed_may_have_written() {
    let mut f = Files::new();
    f.begin_with(WORD, 1);
    let write = f.begin(change(WORD.at..WORD.at + 8, Some(2), false));
    f.finish(&write, WORD.at..WORD.at + 8, Wrote::Perhaps);
    assert_eq!(values(&f), [1, 2]);
}

#[test]
fn a_word_that_is_heard_of_late_has_been_changed_as_well() {
    let mut f = Files::new();
    let write = f.begin(change(WORD.at..WORD.at + 8, Some(2), false));
    f.finish(&write, WORD.at..WORD.at + 8, Wrote::All);
    let hole = f.begin(change(0..WORD.at + 4, None, true));
    assert_eq!(values(&f), [0, 2]);
    f.finish(&hole, 0..WORD.at + 4, Wrote::All);
    assert_eq!(values(&f), [0]);
    let mut edges: Vec<usize> = f.edges_in(0, 1).collect();
    edges.sort_unstable();
    edges.dedup();
    assert_eq!(edges, [0, 1, 2, 3, 4, 511]);
}

#[test]
fn a_copy_may_be_of_the_time_between_two_writes_of_which_the_later_began_first() {
    let mut f = Files::new();
    f.begin_with(WORD, 0x1111_2222_3333_4444);
    let upper = WORD.at + 4..WORD.at + 12;
    let lower = WORD.at - 4..WORD.at + 4;
    let first = f.begin(change(upper.clone(), Some(0x5555_6666), false));
    let second = f.begin(change(lower.clone(), Some(0x7777_8888_0000_0000), false));
    f.finish(&second, lower, Wrote::All);
    f.finish(&first, upper, Wrote::All);
    assert!(values(&f).contains(&0x5555_6666_7777_8888));
    let ever = |value| f.ever(WORD, value);
    assert!(ever(0x5555_6666_3333_4444) && ever(0x1111_2222_7777_8888));
    assert!(!ever(0x5555_6666_3333_8888));
}
