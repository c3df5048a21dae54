//! A doubly linked list of ids whose links live in the caller's records: LRU lists, free lists.
//!
//! Locks: the caller's, around every call. Never sleeps. Every operation but `iter` and `validate`
//! is O(1). An element is on at most one list per set of links; the list cannot check that (see
//! [`List::validate`]).

use crate::{Corrupt, NIL, ensure};

/// The link cells of the elements.
pub trait Links {
    /// The element after `i`, or [`NIL`].
    fn next(&self, i: u32) -> u32;
    /// Sets what [`Links::next`] returns.
    fn set_next(&self, i: u32, to: u32);
    /// The element before `i`, or [`NIL`].
    fn prev(&self, i: u32) -> u32;
    /// Sets what [`Links::prev`] returns.
    fn set_prev(&self, i: u32, to: u32);
}

/// The ends and the length of one list. Invariant: `head`, `tail` are [`NIL`] exactly when `len` is
/// 0; the head's `prev` and the tail's `next` are [`NIL`].
///
/// Not `Clone`: two copies would disagree after the first change.
#[derive(PartialEq, Eq, Debug)]
pub struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }

    /// Rebuilds a list that was stored as [`List::into_parts`].
    pub const fn from_parts(head: u32, tail: u32, len: u32) -> Self {
        Self { head, tail, len }
    }

    /// Head, tail and length, for a list that rests in the cells of a record.
    pub const fn into_parts(self) -> (u32, u32, u32) {
        (self.head, self.tail, self.len)
    }

    /// The first element.
    #[inline]
    pub const fn front(&self) -> Option<u32> {
        if self.head == NIL {
            None
        } else {
            Some(self.head)
        }
    }

    /// The last element.
    #[inline]
    pub const fn back(&self) -> Option<u32> {
        if self.tail == NIL {
            None
        } else {
            Some(self.tail)
        }
    }

    /// Number of elements.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Holds no element.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `i`, which is on no list, before the first element.
    #[inline]
    pub fn push_front<L: Links + ?Sized>(&mut self, links: &L, i: u32) {
        debug_assert!(i != NIL);
        links.set_prev(i, NIL);
        links.set_next(i, self.head);
        match self.head {
            NIL => self.tail = i,
            old => links.set_prev(old, i),
        }
        self.head = i;
        self.len += 1;
    }

    /// Puts `i`, which is on no list, after the last element.
    #[inline]
    pub fn push_back<L: Links + ?Sized>(&mut self, links: &L, i: u32) {
        debug_assert!(i != NIL);
        links.set_next(i, NIL);
        links.set_prev(i, self.tail);
        match self.tail {
            NIL => self.head = i,
            old => links.set_next(old, i),
        }
        self.tail = i;
        self.len += 1;
    }

    /// Puts the `n` elements from `first` on (one at least), which are on no list, after the last
    /// one, in the order of their numbers.
    pub fn push_back_run<L: Links + ?Sized>(&mut self, links: &L, first: u32, n: u32) {
        debug_assert!(n > 0);
        let last = first + n - 1;
        links.set_prev(first, self.tail);
        match self.tail {
            NIL => self.head = first,
            old => links.set_next(old, first),
        }
        for i in first..last {
            links.set_next(i, i + 1);
            links.set_prev(i + 1, i);
        }
        links.set_next(last, NIL);
        self.tail = last;
        self.len += n;
    }

    /// Takes the first element off.
    #[inline]
    pub fn pop_front<L: Links + ?Sized>(&mut self, links: &L) -> Option<u32> {
        let i = self.front()?;
        self.head = links.next(i);
        match self.head {
            NIL => self.tail = NIL,
            new => links.set_prev(new, NIL),
        }
        self.len -= 1;
        Some(i)
    }

    /// Takes the last element off.
    #[inline]
    pub fn pop_back<L: Links + ?Sized>(&mut self, links: &L) -> Option<u32> {
        let i = self.back()?;
        self.tail = links.prev(i);
        match self.tail {
            NIL => self.head = NIL,
            new => links.set_next(new, NIL),
        }
        self.len -= 1;
        Some(i)
    }

    /// Takes `i`, which is on this list, off it.
    #[inline]
    pub fn remove<L: Links + ?Sized>(&mut self, links: &L, i: u32) {
        debug_assert!(self.len > 0 && i != NIL);
        let (prev, next) = (links.prev(i), links.next(i));
        match prev {
            NIL => self.head = next,
            p => links.set_next(p, next),
        }
        match next {
            NIL => self.tail = prev,
            n => links.set_prev(n, prev),
        }
        self.len -= 1;
    }

    /// Moves `i`, which is on this list, to the front.
    #[inline]
    pub fn move_to_front<L: Links + ?Sized>(&mut self, links: &L, i: u32) {
        if self.head != i {
            self.remove(links, i);
            self.push_front(links, i);
        }
    }

    /// Moves `i`, which is on this list, to the back.
    #[inline]
    pub fn move_to_back<L: Links + ?Sized>(&mut self, links: &L, i: u32) {
        if self.tail != i {
            self.remove(links, i);
            self.push_back(links, i);
        }
    }

    /// Moves every element of `other` behind the last element, in its order; `other` is then empty.
    pub fn splice<L: Links + ?Sized>(&mut self, links: &L, other: &mut List) {
        if other.is_empty() {
            return;
        }
        match self.tail {
            NIL => self.head = other.head,
            t => {
                links.set_next(t, other.head);
                links.set_prev(other.head, t);
            }
        }
        self.tail = other.tail;
        self.len += other.len;
        *other = List::new();
    }

    /// Moves every element of `other` before the first element, in its order; `other` is then
    /// empty.
    pub fn splice_front<L: Links + ?Sized>(&mut self, links: &L, other: &mut List) {
        other.splice(links, self);
        core::mem::swap(self, other);
    }

    /// The elements from first to last.
    pub fn iter<'a, L: Links + ?Sized>(&self, links: &'a L) -> Iter<'a, L> {
        Iter {
            links,
            at: self.head,
            left: self.len,
        }
    }

    /// Walks the list and checks links both ways, the ends and the length. O(len), and terminates
    /// whatever the links hold.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate<L: Links + ?Sized>(&self, links: &L) -> Result<(), Corrupt> {
        let (mut before, mut at, mut seen) = (NIL, self.head, 0);
        while at != NIL {
            ensure(seen < self.len, "list longer than its length", at)?;
            ensure(
                links.prev(at) == before,
                "list: prev is not the one before",
                at,
            )?;
            before = at;
            at = links.next(at);
            seen += 1;
        }
        ensure(
            before == self.tail,
            "list: tail is not the last element",
            self.tail,
        )?;
        ensure(seen == self.len, "list shorter than its length", NIL)
    }
}

/// Elements of a [`List`] from first to last. Bounded by the length at its start, so that it ends
/// even over broken links.
#[derive(Debug)]
pub struct Iter<'a, L: ?Sized> {
    links: &'a L,
    at: u32,
    left: u32,
}

impl<L: Links + ?Sized> Iterator for Iter<'_, L> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.at == NIL || self.left == 0 {
            return None;
        }
        let i = self.at;
        self.at = self.links.next(i);
        self.left -= 1;
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cells, config, steps};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[test]
    fn both_ends() {
        let cells = Cells::new(4);
        let mut l = List::new();
        assert_eq!(l.pop_front(&cells), None);
        assert_eq!(l.pop_back(&cells), None);
        l.push_back(&cells, 1);
        l.push_back(&cells, 2);
        l.push_front(&cells, 0);
        assert_eq!(l.iter(&cells).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((l.front(), l.back(), l.len()), (Some(0), Some(2), 3));
        assert_eq!(l.pop_back(&cells), Some(2));
        assert_eq!(l.pop_front(&cells), Some(0));
        assert_eq!(l.pop_front(&cells), Some(1));
        assert_eq!(l, List::new());
    }

    #[test]
    fn a_run_goes_to_the_back() {
        let cells = Cells::new(8);
        let mut l = List::new();
        l.push_back_run(&cells, 3, 3);
        assert_eq!(l.iter(&cells).collect::<Vec<_>>(), [3, 4, 5]);
        l.push_back_run(&cells, 0, 1);
        l.push_back_run(&cells, 6, 2);
        assert_eq!(l.iter(&cells).collect::<Vec<_>>(), [3, 4, 5, 0, 6, 7]);
        assert_eq!(l.validate(&cells), Ok(()));
    }

    #[test]
    fn rests_in_parts() {
        let cells = Cells::new(3);
        let mut l = List::new();
        l.push_back(&cells, 2);
        l.push_back(&cells, 0);
        let (head, tail, len) = l.into_parts();
        let l = List::from_parts(head, tail, len);
        assert_eq!(l.validate(&cells), Ok(()));
        assert_eq!(l.iter(&cells).collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn validate_sees_each_kind_of_damage() {
        let build = || {
            let cells = Cells::new(4);
            let mut l = List::new();
            (0..3).for_each(|i| l.push_back(&cells, i));
            (cells, l)
        };
        let (c, l) = build();
        c.set_next(2, 0);
        assert!(l.validate(&c).is_err(), "a cycle");
        assert_eq!(l.iter(&c).count(), 3, "iter ends on a cycle");
        let (c, l) = build();
        c.set_prev(1, 3);
        assert_eq!(l.validate(&c).unwrap_err().at, 1);
        let (c, l) = build();
        c.set_next(1, NIL);
        assert!(l.validate(&c).is_err(), "cut short");
        let (c, mut l) = build();
        l.len = 2;
        assert!(l.validate(&c).is_err(), "length");
        l.len = 4;
        assert!(l.validate(&c).is_err(), "length");
        let (c, mut l) = build();
        l.tail = 1;
        assert!(l.validate(&c).is_err(), "tail");
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn behaves_like_two_deques(ops in prop::collection::vec((0u8..10, 0u32..24, any::<bool>()), 0..steps(200))) {
            let cells = Cells::new(24);
            let mut lists = [List::new(), List::new()];
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (op, i, second) in ops {
                let a = usize::from(second);
                let (l, m) = (&mut lists[a], &mut model[a]);
                let on = m.iter().position(|&x| x == i);
                match op {
                    0 => { prop_assert_eq!(l.pop_front(&cells), m.pop_front()); }
                    1 => { prop_assert_eq!(l.pop_back(&cells), m.pop_back()); }
                    2 | 3 => if let Some(at) = on { l.remove(&cells, i); m.remove(at); },
                    4 => if let Some(at) = on { l.move_to_front(&cells, i); m.remove(at); m.push_front(i); },
                    5 => if let Some(at) = on { l.move_to_back(&cells, i); m.remove(at); m.push_back(i); },
                    6 => {
                        let [l0, l1] = &mut lists;
                        let [m0, m1] = &mut model;
                        if second {
                            l0.splice(&cells, l1);
                            m0.append(m1);
                        } else {
                            l0.splice_front(&cells, l1);
                            m1.append(m0);
                            core::mem::swap(m0, m1);
                        }
                    }
                    _ => if !model.iter().any(|m| m.contains(&i)) {
                        if op == 7 { lists[a].push_front(&cells, i); model[a].push_front(i); }
                        else { lists[a].push_back(&cells, i); model[a].push_back(i); }
                    },
                }
                for (l, m) in lists.iter().zip(&model) {
                    prop_assert_eq!(l.validate(&cells), Ok(()));
                    prop_assert_eq!(l.len() as usize, m.len());
                    prop_assert!(l.iter(&cells).eq(m.iter().copied()));
                }
            }
        }
    }
}
