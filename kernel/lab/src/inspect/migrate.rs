//! `migrate`: pages of address spaces go to other frames.

use arch::{PAGE_SIZE, USER_TOP, VirtAddr};
use mm::MmError;

use super::spaces::{chosen, none_in_use};
use crate::args::{UsageError, number};
use crate::shell::{Ctx, Status};

pub(super) fn migrate(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let spaces = chosen(&mut args)?;
    let start = args.word().map_or(Ok(0), |w| number(&w))?;
    let pages = args.word().map(|w| number(&w)).transpose()?;
    args.done()?;
    if start >= USER_TOP {
        return Err(UsageError(alloc::format!(
            "address {start:#x} is not in the user half"
        )));
    }
    let start = VirtAddr(start).page();
    let most = (USER_TOP - start.0) / PAGE_SIZE;
    let len = pages.unwrap_or(most).min(most) * PAGE_SIZE;
    none_in_use(&spaces, ctx.out);
    for space in &spaces {
        let id = space.id();
        match space.move_pages(start, len) {
            Ok(done) => writeln!(
                ctx.out,
                "mm {id}: {} pages moved; stayed: {} busy, {} of files, {} without memory",
                done.moved, done.busy, done.files, done.no_memory
            ),
            // It ends by itself.
            Err(MmError::Killed) => writeln!(ctx.out, "mm {id}: killed"),
            Err(e) => {
                writeln!(ctx.out, "mm {id}: {e:?}");
                return Ok(Status::Failed);
            }
        }
    }
    Ok(Status::Ok)
}
