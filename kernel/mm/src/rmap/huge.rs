//! Reclaim comes to a huge folio: it is split, and its pages are looked at one by one.
//!
//! Nothing keeps the folio meanwhile. Where it was mapped its anon_vma tells, whose lock keeps
//! areas and tables; whether it still is there is seen under the lock of the PMD table. Takes the
//! family's lock shared, if that is to be had at once, and what a split takes. Never sleeps.

use crate::lru::Huge;
use crate::mm::by_id;
use crate::pt::split::split_if;
use crate::vma::anon;

/// Splits the folio, if it still is mapped as it was; true when it was.
pub(crate) fn split(huge: Huge) -> bool {
    let Some(family) = anon::try_lock(huge.anon) else {
        return false;
    };
    let mut done = false;
    family.for_each_vma(huge.index, |area| {
        if let Some(va) = area.address_of(huge.index) {
            let mm = by_id(area.mm());
            done = split_if(area.mm(), mm, va, |folio| folio.pfn() == huge.pfn);
        }
        !done
    });
    done
}
