//! Tests of `buddy`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::testing::{Cells, config, steps};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

fn zone(start: u32, end: u32) -> (Cells, Buddy) {
    let f = Cells::new(end as usize);
    let mut b = Buddy::new();
    b.add_range(&f, start, end).unwrap();
    b.validate(&f).unwrap();
    (f, b)
}

#[test]
fn odd_range_is_cut_into_aligned_blocks() {
    let (f, b) = zone(3, 1030);
    assert_eq!(b.free_pages(), 1027);
    let per_order: Vec<u32> = (0..=MAX_ORDER).map(|k| b.nr_free(k)).collect();
    // 3, 4..8, 8..16, … 512..1024, 1024..1028, 1028..1030
    assert_eq!(per_order, [1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(b.blocks(&f, 2).collect::<Vec<_>>(), [1024, 4]);
    assert_eq!((b.nr_free(11), b.blocks(&f, 11).count()), (0, 0));
}

#[test]
fn ranges_added_apart_merge_but_not_over_holes() {
    let f = Cells::new(64);
    let mut b = Buddy::new();
    b.add_range(&f, 8, 16).unwrap();
    b.add_range(&f, 32, 40).unwrap();
    assert_eq!((b.span(), b.nr_free(3)), ((8, 40), 2));
    b.add_range(&f, 0, 8).unwrap();
    assert_eq!((b.span(), b.nr_free(3), b.nr_free(4)), ((0, 40), 1, 1));
    b.add_range(&f, 5, 5).unwrap();
    assert_eq!(b.free_pages(), 24);
    assert_eq!(
        b.add_range(&f, 24, 40),
        Err(DoubleFree { head: 32, order: 3 })
    );
    b.validate(&f).unwrap();
}

#[test]
fn split_and_merge_back() {
    let (f, mut b) = zone(0, 1024);
    let p = b.alloc(&f, 0).unwrap();
    assert_eq!((0..10).map(|k| b.nr_free(k)).collect::<Vec<_>>(), [1; 10]);
    assert_eq!((b.largest_order(), b.alloc(&f, 10)), (Some(9), None));
    b.free(&f, p, 0).unwrap();
    assert_eq!((b.nr_free(10), b.free_pages()), (1, 1024));
    assert_eq!(b.alloc(&f, 11), None);
    assert_eq!(b.alloc(&f, 10), Some(0));
    assert_eq!((b.largest_order(), b.alloc(&f, 0)), (None, None));
    b.validate(&f).unwrap();
}

#[test]
fn double_free_of_a_head_and_of_an_inner_block() {
    let (f, mut b) = zone(0, 2048);
    let whole = DoubleFree {
        head: 1024,
        order: 10,
    };
    assert_eq!(b.free(&f, 1024, 10), Err(whole));
    assert_eq!(b.free(&f, 1024, 0), Err(whole));
    assert_eq!(b.free(&f, 1024 + 777, 0), Err(whole));
    let p = b.alloc(&f, 1).unwrap();
    b.free(&f, p, 1).unwrap();
    assert!(b.free(&f, p, 1).is_err());
    assert!(b.free(&f, p + 1, 0).is_err());
    assert_eq!(b.free_pages(), 2048);
    b.validate(&f).unwrap();
}

#[test]
#[should_panic(expected = "not a block of the zone")]
fn free_outside_the_span_panics() {
    let (f, mut b) = zone(16, 32);
    let _ = b.free(&f, 8, 3);
}

#[test]
#[should_panic(expected = "not a block of the zone")]
fn unaligned_free_panics() {
    let (f, mut b) = zone(0, 32);
    let _ = b.free(&f, 1, 1);
}

#[test]
fn take_cuts_a_block_out() {
    let (f, mut b) = zone(0, 64);
    assert_eq!(b.take(&f, 20, 2), Ok(()));
    assert_eq!(b.take(&f, 22, 0), Err(NotFree));
    assert_eq!(b.take(&f, 16, 3), Err(NotFree));
    assert_eq!(b.take(&f, 21, 1), Err(NotFree), "not aligned");
    assert_eq!(b.take(&f, 64, 0), Err(NotFree), "outside");
    assert_eq!(b.free_pages(), 60);
    b.validate(&f).unwrap();
    b.free(&f, 20, 2).unwrap();
    assert_eq!(b.nr_free(6), 1);
}

#[test]
fn validate_sees_each_kind_of_damage() {
    let damaged = |harm: &dyn Fn(&Cells, &mut Buddy)| {
        let (f, mut b) = zone(0, 64);
        b.take(&f, 0, 0).unwrap();
        harm(&f, &mut b);
        b.validate(&f).expect_err("unnoticed").what
    };
    assert!(damaged(&|f, _| f.set_free(40, 1)).contains("inside another"));
    assert!(damaged(&|f, _| f.set_free(0, 0)).contains("not merged"));
    assert!(damaged(&|f, _| f.set_free(2, 2)).contains("not aligned"));
    assert!(damaged(&|f, _| f.set_free(32, 6)).contains("not aligned"));
    assert!(damaged(&|f, _| f.clear_free(32)).contains("another order"));
    assert!(damaged(&|f, _| f.set_free(32, 11)).contains("out of range"));
    assert!(damaged(&|_, b| b.free_pages += 1).contains("page count"));
    assert!(damaged(&|_, b| b.non_empty |= 1 << 10).contains("bit map"));
    assert!(damaged(&|_, b| b.end = 32).contains("outside the span"));
    assert!(damaged(&|f, b| b.free[5].remove(f, 32)).contains("no list"));
}

/// The naive model: the maximal aligned free blocks that a set of free pages is made of.
fn blocks_of(free: &[bool], span: (u32, u32)) -> BTreeMap<u32, u8> {
    let mut blocks = BTreeMap::new();
    let mut pfn = span.0;
    while pfn < span.1 {
        let best = (0..=MAX_ORDER).rev().find(|&k| {
            let end = pfn + (1 << k);
            pfn.is_multiple_of(1 << k)
                && end <= span.1
                && free[pfn as usize..end as usize].iter().all(|&f| f)
        });
        if let Some(k) = best {
            blocks.insert(pfn, k);
        }
        pfn += best.map_or(1, |k| 1 << k);
    }
    blocks
}

const END: u32 = 2600;

proptest! {
    #![proptest_config(config(120))]
    #[test]
    fn agrees_with_a_page_bitmap(
        start in 0u32..700, hole in 700u32..1500, hole_len in 0u32..200, end in 1700u32..END,
        ops in prop::collection::vec((0u8..8, 0u8..=MAX_ORDER, any::<u32>()), 1..steps(80)),
    ) {
        let f = Cells::new(END as usize);
        let mut b = Buddy::new();
        let mut free = std::vec![false; END as usize];
        let mut held: Vec<(u32, u8)> = Vec::new();
        for (s, e) in [(hole + hole_len, end), (start, hole)] {
            b.add_range(&f, s, e).unwrap();
            free[s as usize..e as usize].fill(true);
        }
        for (op, order, pick) in ops {
            // Small orders more often, as in life.
            let order = if op % 2 == 0 { order } else { order % 4 };
            let size = 1u32 << order;
            let range = |p: u32, k: u8| p as usize..(p + (1 << k)) as usize;
            match op {
                0..=3 => {
                    let possible = blocks_of(&free, b.span()).values().any(|&k| k >= order);
                    let got = b.alloc(&f, order);
                    prop_assert_eq!(got.is_some(), possible);
                    if let Some(p) = got {
                        prop_assert_eq!(p % size, 0);
                        prop_assert!(free[range(p, order)].iter().all(|&x| x));
                        free[range(p, order)].fill(false);
                        held.push((p, order));
                    }
                }
                4 | 5 => if !held.is_empty() {
                    let (p, k) = held.swap_remove(pick as usize % held.len());
                    prop_assert_eq!(b.free(&f, p, k), Ok(()));
                    free[range(p, k)].fill(true);
                },
                6 => {
                    let p = (pick % END) & !(size - 1);
                    let all = p + size <= b.span().1 && free[range(p, order)].iter().all(|&x| x);
                    prop_assert_eq!(b.take(&f, p, order).is_ok(), all);
                    if all {
                        free[range(p, order)].fill(false);
                        held.push((p, order));
                    }
                }
                _ => {
                    let p = start + pick % (end - start);
                    let blocks = blocks_of(&free, b.span());
                    let inside = blocks.range(..=p).next_back().filter(|&(&h, &k)| p < h + (1 << k));
                    prop_assert_eq!(b.free_block_of(&f, p), inside.map(|(&h, &k)| (h, k)));
                    if let Some((&head, &order)) = inside {
                        prop_assert_eq!(b.free(&f, p, 0), Err(DoubleFree { head, order }));
                    }
                }
            }
        }
        prop_assert_eq!(b.validate(&f), Ok(()));
        let blocks = blocks_of(&free, b.span());
        for pfn in b.span().0..b.span().1 {
            prop_assert_eq!(f.free_order(pfn), blocks.get(&pfn).copied());
        }
        prop_assert_eq!(b.free_pages() as usize, free.iter().filter(|&&x| x).count());
        for (p, k) in held {
            prop_assert_eq!(b.free(&f, p, k), Ok(()));
        }
        prop_assert_eq!(b.free_pages(), (hole - start) + (end - hole - hole_len));
        b.validate(&f).unwrap();
    }
}
