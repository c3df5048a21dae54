//! Heads and tails: whatever is taken and given back, every frame leads to the head of its block.

use arch::Pfn;
use arch::simctl::{self, Config};
use fastrand::Rng;
use mm::buddy::{self, Gfp, MAX_ORDER, Page};
use mm::inspect::{block_of, frame, max_pfn};
use mm::stats::Use;

/// A block that the test has.
struct Block {
    page: Page,
    order: u8,
}

impl Block {
    fn check(&self) {
        let head = self.page.pfn();
        assert_eq!(frame(head).usage(), Use::Misc);
        for i in 0..1 << self.order {
            let at = head.add(i);
            assert_eq!(block_of(at), (head, self.order), "{at:?}");
            assert_eq!(frame(at).order(), if i == 0 { self.order } else { 0 });
            assert_eq!(frame(at).refcount(), u32::from(i == 0), "{at:?}");
        }
    }
}

/// Blocks follow one another without a gap, and each of their frames leads to the first.
fn check_all() {
    let mut at = 0;
    while at < max_pfn() as u32 {
        let (head, order) = block_of(Pfn(at));
        assert_eq!(head, Pfn(at), "a frame in the middle of a block");
        for i in 1..1 << order {
            assert_eq!(block_of(head.add(i)), (head, order));
        }
        at += 1 << order;
    }
    mm::check().expect("accounting");
}

#[test]
fn every_frame_leads_to_the_head_of_its_block() {
    simctl::boot(Config {
        ram: 32 << 20,
        ..Config::default()
    });
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        let mut rng = Rng::with_seed(7);
        let mut held: Vec<Block> = Vec::new();
        for round in 0..3000 {
            if rng.bool() {
                let order = rng.u8(0..=MAX_ORDER);
                if let Ok(page) = buddy::alloc(order, Use::Misc, Gfp::NOWAIT) {
                    held.push(Block { page, order });
                    held[held.len() - 1].check();
                }
            } else if !held.is_empty() {
                // Of some the content is looked at when they are taken again, of others not.
                let block = held.swap_remove(rng.usize(..held.len()));
                match rng.bool() {
                    true => drop(block.page),
                    false => block.page.give_back(),
                }
            }
            if round % 300 == 0 {
                held.iter().for_each(Block::check);
                check_all();
            }
        }
        drop(held);
        check_all();
    });
}
