//! `thp`: where huge pages are used.

use mm::thp::{self, Policy};

use crate::args::UsageError;
use crate::shell::{Ctx, Status};

pub(super) fn names() -> alloc::vec::Vec<&'static str> {
    Policy::ALL.iter().map(|p| p.1).collect()
}

pub(super) fn thp(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let word = args.word();
    args.done()?;
    if let Some(word) = word {
        let found = Policy::ALL.iter().find(|p| p.1 == word);
        let (policy, _) = found.ok_or_else(|| {
            UsageError(alloc::format!(
                "no policy {word:?}: want always, madvise or never"
            ))
        })?;
        thp::set_policy(*policy);
    }
    for (policy, name) in Policy::ALL {
        if policy == thp::policy() {
            write!(ctx.out, "[{name}] ");
        } else {
            write!(ctx.out, "{name} ");
        }
    }
    writeln!(ctx.out);
    Ok(Status::Ok)
}
