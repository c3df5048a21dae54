//! The `stress` command: actors that use address spaces as hard as they can while every byte is
//! checked.
//!
//! Actors are kernel threads that adopt an address space and touch its user half through the MMU. A
//! failure names the address, what was expected and what was found, and prints the seed and the
//! command that replays it. (Where several CPUs race, the seed fixes each actor's choices, not
//! their timing.)

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::VirtAddr;

use crate::args::UsageError;
use crate::cancel::Cancel;
use crate::out::Out;
use crate::replay;
use crate::shell::{Command, Ctx, Status, nearest};

pub mod anon;
pub mod broken;
pub mod fat;
pub mod file;
pub mod fork;
pub mod mapped;
pub mod memory;
pub mod migrate;
pub mod mixed;
pub mod page;
pub mod swap;
pub mod team;
pub mod thp;
pub mod tlb;
pub mod truncate;
pub mod versions;
pub mod window;
pub mod worker;
pub mod zap_mkclean;

use team::Team;

/// Where windows lie.
pub const BASE: VirtAddr = VirtAddr(0x1000_0000);

/// What a run is given.
pub struct Env<'a> {
    /// Where progress and results go.
    pub out: &'a dyn Out,
    /// Ctrl-C.
    pub cancel: &'a Cancel,
    /// The stress's name.
    pub name: &'static str,
    /// How long to go on, in seconds; what must be finished is finished after that.
    pub secs: u64,
    /// CPUs to use, 1 to the number there is.
    pub cpus: usize,
    /// Seeds every actor's choices.
    pub seed: u64,
    /// Working set (or window) in pages, if the user chose it.
    pub pages: Option<usize>,
    /// Free memory to leave to the run, in pages, if the user chose it.
    pub mem: Option<u64>,
    /// Pages that the disk cannot give back are no failure.
    pub bus_ok: bool,
    /// What a sync has promised is printed.
    pub promises: bool,
    /// Break the rule that the stress watches, and succeed when the damage is seen.
    pub broken: bool,
    /// Whether an actor has run: before that there is nothing to replay.
    pub began: AtomicBool,
}

struct Stress {
    name: &'static str,
    help: &'static str,
    /// Of [`SOME`], those that it makes use of.
    takes: &'static [&'static str],
    run: fn(&Env<'_>) -> Result<(), String>,
}

/// Options that not every stress takes.
const SOME: [&str; 5] = ["--pages", "--mem", "--bus-ok", "--promises", "--broken"];

const ALL: &[Stress] = &[
    Stress {
        name: "anon",
        help: "faults, zaps and VMA changes, two actors to an address space",
        takes: &["--pages"],
        run: anon::run,
    },
    Stress {
        name: "tlb",
        help: "readers look for stale translations while the owner unmaps; --broken: without the flush",
        takes: &["--broken"],
        run: tlb::run,
    },
    Stress {
        name: "fork",
        help: "families of address spaces that copy on write, handed from CPU to CPU",
        takes: &["--pages"],
        run: fork::run,
    },
    Stress {
        name: "migrate",
        help: "pages move to other frames while families of address spaces use them",
        takes: &["--pages"],
        run: migrate::run,
    },
    Stress {
        name: "thp",
        help: "huge pages come, are split and go under families of address spaces",
        takes: &["--pages"],
        run: thp::run,
    },
    Stress {
        name: "swap",
        help: "a working set larger than memory; without swap the OOM killer ends one actor",
        takes: &["--pages", "--mem", "--bus-ok"],
        run: swap::run,
    },
    Stress {
        name: "file",
        help: "actors read, write and sync one file on the data disk; the disk itself is looked at as well",
        takes: &["--pages", "--mem", "--bus-ok"],
        run: file::run,
    },
    Stress {
        name: "msync",
        help: "shared mappings of one file; what an msync has promised is looked for on the disk",
        takes: &["--pages", "--mem", "--bus-ok", "--promises"],
        run: mapped::msync,
    },
    Stress {
        name: "writeback",
        help: "shared mappings of one file, little memory, and nobody but the flusher who writes",
        takes: &["--pages", "--mem", "--bus-ok"],
        run: mapped::writeback,
    },
    Stress {
        name: "fat",
        help: "files of the mounted volume that are appended to, cut off, synced and removed",
        takes: &["--promises"],
        run: fat::run,
    },
    Stress {
        name: "truncate",
        help: "a file in memory that is cut off, grown and punched under shared mappings",
        takes: &["--pages", "--mem", "--broken"],
        run: truncate::run,
    },
    Stress {
        name: "zap-mkclean",
        help: "a store lost between a zap and a writeback; --broken: without rule 2",
        takes: &["--broken"],
        run: zap_mkclean::run,
    },
    Stress {
        name: "mixed",
        help: "everything at once, with memory far smaller than the working set",
        takes: &["--pages", "--mem"],
        run: mixed::run,
    },
];

/// The `stress` command.
pub const COMMANDS: &[Command] = &[Command {
    name: "stress",
    help: "use memory hard, with every byte checked",
    usage: "list | NAME [--secs N] [--cpus N] [--seed S] [--pages N] [--mem SIZE] [--bus-ok] [--promises] [--broken]\n\
            --secs N    go on for N seconds (10), then check everything once more\n\
            --cpus N    use N CPUs (all)\n\
            --seed S    seed of every actor's choices (1)\n\
            --pages N   working set (swap), file (file, msync, writeback, truncate), or window (anon, fork, migrate, thp, mixed) in pages\n\
            --mem SIZE  swap, mixed, and those with a file: memory left to the run; the rest is held back meanwhile\n\
            --bus-ok    swap, file, msync, writeback: pages that the disk cannot give back, or take, are no failure\n\
            --promises  msync, fat: print what each sync has promised, for 'quire-host check'\n\
            --broken    tlb, truncate, zap-mkclean: without the rule; succeeds when the damage is seen",
    run: command,
    words: || {
        let options = [
            "list",
            "--secs",
            "--cpus",
            "--seed",
            "--pages",
            "--mem",
            "--bus-ok",
            "--promises",
            "--broken",
        ];
        ALL.iter().map(|s| s.name).chain(options).collect()
    },
}];

fn command(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let usable = crate::usable_cpus() as u64;
    let mut env = Env {
        out: ctx.out,
        cancel: ctx.cancel,
        name: "",
        secs: args.number("--secs", 10, 1..=1_000_000)?,
        cpus: args.number("--cpus", usable, 1..=usable)? as usize,
        seed: args.number("--seed", 1, 0..=u64::MAX)?,
        pages: match args.number("--pages", 0, 0..=1 << 26)? {
            0 => None,
            pages => Some(pages as usize),
        },
        mem: args.size("--mem")?.map(|bytes| bytes / arch::PAGE_SIZE),
        bus_ok: args.flag("--bus-ok"),
        promises: args.flag("--promises"),
        broken: args.flag("--broken"),
        began: AtomicBool::new(false),
    };
    let name = args.want("a name, or list")?;
    args.done()?;
    if name == "list" {
        for s in ALL {
            writeln!(ctx.out, "{:<11} {}", s.name, s.help);
        }
        return Ok(Status::Ok);
    }
    let Some(stress) = ALL.iter().find(|s| s.name == name) else {
        let near = nearest(&name, ALL.iter().map(|s| s.name));
        let names: &Vec<&str> = if near.is_empty() {
            &ALL.iter().map(|s| s.name).collect()
        } else {
            &near
        };
        return Err(UsageError(format!(
            "unknown stress '{name}'; accepted: {}",
            names.join(", ")
        )));
    };
    let given = [
        env.pages.is_some(),
        env.mem.is_some(),
        env.bus_ok,
        env.promises,
        env.broken,
    ];
    for (option, _) in SOME.iter().zip(given).filter(|(_, given)| *given) {
        accept(stress, option)?;
    }
    env.name = stress.name;
    Ok(run(stress, &env, ctx.words))
}

/// # Errors
/// The stress makes no use of `option`, which some do.
fn accept(stress: &Stress, option: &str) -> Result<(), UsageError> {
    if stress.takes.contains(&option) {
        return Ok(());
    }
    let those = ALL.iter().filter(|s| s.takes.contains(&option));
    let names: Vec<&str> = those.map(|s| s.name).collect();
    Err(UsageError(format!(
        "{option} goes with {} only",
        names.join(", ")
    )))
}

fn run(stress: &Stress, env: &Env<'_>, words: &[String]) -> Status {
    let result = (stress.run)(env).and_then(|()| {
        // Nothing runs any more: now every count must agree with a scan.
        mm::check().map_err(|e| format!("accounting: {e}"))?;
        crate::oracle::take().map_or(Ok(()), Err)
    });
    match result {
        Ok(()) => {
            writeln!(env.out, "stress {}: ok", stress.name);
            Status::from_success(!env.cancel.requested())
        }
        Err(message) => {
            writeln!(env.out, "stress {}: FAILED: {message}", stress.name);
            if env.began.load(Ordering::Relaxed) {
                let line = words.join(" ");
                let seed = if line.contains("--seed") {
                    String::new()
                } else {
                    format!(" --seed {:#x}", env.seed)
                };
                replay::tell(env.seed, format_args!("stress {line}{seed}"), &|text| {
                    writeln!(env.out, "# {text}");
                });
            }
            Status::Failed
        }
    }
}

/// The line that ends every run.
pub fn summary(env: &Env<'_>, team: &Team) {
    let get = |n: &core::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    writeln!(
        env.out,
        "stress {}: {} pages verified, {} written, {} operations, {} refused for want of memory, {} killed, {} unreadable",
        env.name,
        get(&team.verified),
        get(&team.written),
        get(&team.operations),
        get(&team.refused),
        get(&team.killed),
        get(&team.unreadable),
    );
}
