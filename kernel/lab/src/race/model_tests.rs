use super::*;

const MM: u32 = 3;
const CHILD: u32 = 4;
const HERE: u64 = 10;
const THERE: u64 = 20;

/// A model and files, and what a word of page `HERE` may be of a few values.
struct World {
    m: Model,
    f: Files,
}

const VALUES: [u64; 6] = [0, 1, 2, 3, 4, disk_word()];

const fn disk_word() -> u64 {
    crate::race::disk::WIPED
}

const fn at(page: u64) -> u64 {
    page * PAGE_SIZE + 16
}

const fn pages(first: u64, n: u64) -> Pages {
    Pages { mm: MM, first, n }
}

impl World {
    fn new() -> Self {
        Self {
            m: Model::new(),
            f: Files::new(),
        }
    }
    fn store(&mut self, page: u64, value: u64) {
        self.m.store(&mut self.f, MM, at(page), value);
    }
    fn seen(&mut self, page: u64, value: u64) {
        assert!(self.m.allows(&self.f, MM, at(page), value));
        self.m.seen(&mut self.f, MM, at(page), value);
    }
    fn of(&self, mm: u32, page: u64) -> Vec<u64> {
        let allowed = |v: &u64| self.m.allows(&self.f, mm, at(page), *v);
        VALUES.into_iter().filter(allowed).collect()
    }
    fn may_be(&self, page: u64) -> Vec<u64> {
        self.of(MM, page)
    }
}

#[test]
fn the_last_store_counts_and_what_nobody_stored_is_zero() {
    let mut w = World::new();
    assert_eq!(w.may_be(HERE), [0]);
    w.store(HERE, 1);
    w.store(HERE, 2);
    assert_eq!(w.may_be(HERE), [2]);
    w.m.fork(MM, CHILD);
    w.store(HERE, 3);
    assert_eq!((w.may_be(HERE), w.of(CHILD, HERE)), (vec![3], vec![2]));
    w.m.clear();
    assert_eq!(w.may_be(HERE), [0]);
}

#[test]
fn what_was_given_up_does_not_come_back() {
    let mut w = World::new();
    w.store(HERE, 1);
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Same);
    assert_eq!(w.may_be(HERE), [0, 1]);
    // To the page that goes, or to the one that comes: then it is there, or lost.
    w.store(HERE, 2);
    assert_eq!(w.may_be(HERE), [0, 1, 2]);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0, 2]);
    w.seen(HERE, 2);
    assert_eq!(w.may_be(HERE), [2], "there is one page now");
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Same);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0]);
}

#[test]
fn of_two_who_give_up_each_ends_what_was_before_it() {
    let mut w = World::new();
    w.store(HERE, 1);
    let first = w.m.begin_fresh(pages(HERE, 1), Fresh::Same);
    w.store(HERE, 2);
    let second = w.m.begin_fresh(pages(HERE, 2), Fresh::Same);
    w.store(HERE, 3);
    w.m.finish(&first, Ended::Done);
    assert_eq!(
        w.may_be(HERE),
        [0, 2, 3],
        "the second has not been there yet"
    );
    w.m.finish(&second, Ended::Done);
    assert_eq!(w.may_be(HERE), [0, 3]);
    w.store(HERE, 4);
    assert_eq!(w.may_be(HERE), [4]);
}

#[test]
fn what_failed_has_given_nothing_up() {
    let mut w = World::new();
    w.store(HERE, 1);
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Memory);
    w.m.finish(&token, Ended::Failed);
    assert_eq!(w.may_be(HERE), [1]);
}

/// A page that shows a file's, of which a copy was made.
fn with_a_copy() -> World {
    let mut w = World::new();
    let map = w.m.begin_fresh(pages(HERE, 1), Fresh::Private(0, 3));
    w.m.finish(&map, Ended::Done);
    w.store(HERE, 1);
    w
}

#[test]
fn what_may_have_failed_has_given_all_up_or_nothing() {
    for (ended, then) in [
        (Ended::Done, vec![0]),
        (Ended::Perhaps, vec![0, 1]),
        (Ended::Failed, vec![1]),
    ] {
        let mut w = with_a_copy();
        let cut = w.m.begin_cut(0, 3);
        w.m.finish(&cut, ended);
        assert_eq!(w.may_be(HERE), then, "{ended:?}");
    }
    let mut w = with_a_copy();
    let behind = w.m.begin_cut(0, 4);
    w.m.finish(&behind, Ended::Done);
    assert_eq!(w.may_be(HERE), [1]);
}

#[test]
fn nothing_is_where_nothing_is_mapped() {
    let mut w = World::new();
    w.store(HERE, 1);
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Nothing);
    assert!(w.may_be(HERE).contains(&1));
    w.m.finish(&token, Ended::Done);
    assert!(w.may_be(HERE).is_empty());
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Memory);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0]);
}

#[test]
fn what_may_be_dropped_is_kept_once_it_is_stored_to() {
    let mut w = World::new();
    w.store(HERE, 1);
    w.m.store(&mut w.f, MM, at(HERE) + 8, 4);
    let token = w.m.begin_free(pages(HERE, 1));
    w.store(HERE, 2);
    assert_eq!(w.may_be(HERE), [0, 2]);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0, 2], "the store came before the end");
    w.seen(HERE, 2);
    assert_eq!(w.may_be(HERE), [0, 2], "it may still be dropped");
    w.store(HERE, 3);
    assert_eq!(w.may_be(HERE), [3]);
    let beside = |v| w.m.allows(&w.f, MM, at(HERE) + 8, v);
    assert!(beside(4) && beside(0), "it may have been dropped before");
}

#[test]
fn a_page_is_dropped_as_a_whole() {
    let mut w = World::new();
    w.store(HERE, 1);
    w.m.store(&mut w.f, MM, at(HERE) + 8, 4);
    let token = w.m.begin_free(pages(HERE, 1));
    w.m.finish(&token, Ended::Done);
    w.seen(HERE, 0);
    assert_eq!(w.may_be(HERE), [0]);
    assert!(!w.m.allows(&w.f, MM, at(HERE) + 8, 4));
}

#[test]
fn what_is_stored_while_a_page_is_freed_may_come_after_the_drop() {
    let mut w = World::new();
    w.store(HERE, 1);
    let token = w.m.begin_free(pages(HERE, 1));
    w.m.store(&mut w.f, MM, at(HERE) + 8, 4);
    w.m.finish(&token, Ended::Done);
    w.seen(HERE, 0);
    assert_eq!(w.may_be(HERE), [0]);
    let beside = |w: &World, v| w.m.allows(&w.f, MM, at(HERE) + 8, v);
    assert!(beside(&w, 4) && beside(&w, 0));
    w.m.store(&mut w.f, MM, at(HERE) + 8, 5);
    assert!(beside(&w, 5) && !beside(&w, 4));
}

#[test]
fn what_is_moved_is_there_and_no_longer_here() {
    let mut w = World::new();
    w.store(HERE, 1);
    w.store(THERE, 4);
    let token = w.m.begin_move(pages(HERE, 1), pages(THERE, 1));
    assert_eq!(w.may_be(THERE), [0, 1, 4]);
    w.store(HERE, 2);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(THERE), [1, 2], "the store may have come too late");
    // Nothing is mapped there, but a store succeeded: somebody has mapped something, or it was
    // before the move.
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Memory);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0]);
}

#[test]
fn what_is_stored_at_the_new_place_is_found_at_the_old_one_until_the_move_is_over() {
    let mut w = World::new();
    w.store(HERE, 1);
    w.store(THERE, 4);
    let token = w.m.begin_move(pages(HERE, 1), pages(THERE, 1));
    assert_eq!(w.may_be(HERE), [1], "what was there before is nowhere else");
    w.store(THERE, 2);
    assert_eq!(w.may_be(HERE), [1, 2]);
    w.m.finish(&token, Ended::Done);
    let token = w.m.begin_fresh(pages(HERE, 1), Fresh::Memory);
    w.m.finish(&token, Ended::Done);
    assert_eq!(w.may_be(HERE), [0]);
}

#[test]
fn copies_of_a_file_are_given_up_where_they_are_moved_to() {
    // The move begins first, or what cuts the file off does.
    for cut_first in [false, true] {
        let mut w = with_a_copy();
        let early = cut_first.then(|| w.m.begin_cut(0, 3));
        let moving = w.m.begin_move(pages(HERE, 1), pages(THERE, 1));
        let cut = early.unwrap_or_else(|| w.m.begin_cut(0, 3));
        w.m.finish(&moving, Ended::Done);
        w.store(THERE, 2);
        assert_eq!(w.may_be(THERE), [0, 1, 2]);
        w.m.finish(&cut, Ended::Done);
        assert!(w.may_be(THERE).contains(&0));
        w.store(THERE, 4);
        assert_eq!(w.may_be(THERE), [4]);
    }
}

#[test]
fn copies_are_given_up_that_come_about_while_a_file_is_cut_off() {
    let mut w = with_a_copy();
    let cut = w.m.begin_cut(0, 3);
    let map = w.m.begin_fresh(pages(THERE, 1), Fresh::Private(0, 3));
    w.m.finish(&map, Ended::Done);
    w.store(THERE, 2);
    let fork = w.m.begin_fork(MM);
    w.m.finish_fork(&fork, CHILD);
    w.m.finish(&cut, Ended::Done);
    assert_eq!((w.may_be(HERE), w.may_be(THERE)), (vec![0], vec![0, 2]));
    assert_eq!(
        (w.of(CHILD, HERE), w.of(CHILD, THERE)),
        (vec![0, 1], vec![0, 2])
    );
}

#[test]
fn of_two_moves_under_way_nothing_is_known() {
    let mut w = World::new();
    w.store(HERE, 1);
    let first = w.m.begin_move(pages(HERE, 1), pages(THERE, 1));
    let second = w.m.begin_move(pages(THERE, 1), pages(THERE + 5, 1));
    w.m.finish(&second, Ended::Done);
    w.m.finish(&first, Ended::Failed);
    for page in [HERE, THERE, THERE + 5] {
        assert_eq!(w.may_be(page), VALUES, "{page}");
        let token = w.m.begin_fresh(pages(page, 1), Fresh::Memory);
        w.m.finish(&token, Ended::Done);
        assert_eq!(w.may_be(page), [0], "{page}");
    }
}

#[test]
fn a_child_has_what_the_parent_had_at_some_moment() {
    let mut w = World::new();
    w.store(HERE, 1);
    w.store(HERE, 2);
    let token = w.m.begin_fork(MM);
    w.store(HERE, 3);
    w.m.finish_fork(&token, CHILD);
    w.store(HERE, 4);
    assert_eq!((w.may_be(HERE), w.of(CHILD, HERE)), (vec![4], vec![2, 3]));
    let token = w.m.begin_fork(MM);
    let drop = w.m.begin_fresh(pages(HERE, 1), Fresh::Same);
    w.m.finish_fork(&token, CHILD);
    w.m.finish(&drop, Ended::Done);
    assert_eq!((w.may_be(HERE), w.of(CHILD, HERE)), (vec![0], vec![0, 4]));
}

#[test]
fn what_was_moved_during_a_fork_is_not_known_in_the_child() {
    let mut w = World::new();
    w.store(HERE, 1);
    let fork = w.m.begin_fork(MM);
    let token = w.m.begin_move(pages(HERE, 1), pages(THERE, 1));
    w.m.finish(&token, Ended::Done);
    w.m.finish_fork(&fork, CHILD);
    assert_eq!(w.of(CHILD, THERE), VALUES);
    assert_eq!(w.may_be(THERE), [1]);
}

#[test]
fn the_first_wrong_word_of_a_page_is_found_also_one_that_nobody_stored() {
    let mut w = World::new();
    w.store(HERE, 1);
    let mut words = [0; WORDS];
    words[2] = 1;
    let wrong = |words: &[u64; WORDS]| w.m.wrong_in_page(&w.f, (MM, HERE), |i| words[i]);
    assert_eq!(wrong(&words), None);
    words[300] = 7;
    assert_eq!(wrong(&words), Some((HERE * PAGE_SIZE + 2400, 7)));
    words[300] = 0;
    words[2] = 0;
    assert_eq!(wrong(&words), Some((at(HERE), 0)));
    assert_eq!(w.m.missing(MM, |_| true), None);
    assert_eq!(w.m.missing(MM, |_| false), Some(at(HERE)));
}
