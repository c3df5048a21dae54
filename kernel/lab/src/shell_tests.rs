//! Tests of the interpreter with a small command table.

use super::*;
use crate::out::Buffer;

fn echo(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    writeln!(ctx.out, "[{}]", ctx.words.join("|"));
    Ok(Status::Ok)
}
fn fail(_: &mut Ctx<'_>) -> Result<Status, UsageError> {
    Ok(Status::Failed)
}
fn strict(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    args.number("--secs", 1, 1..=9)?;
    args.done()?;
    Ok(Status::Ok)
}
fn stop(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.power_off();
    Ok(Status::Ok)
}
fn interrupted(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.cancel.request();
    Ok(Status::Failed)
}

macro_rules! command {
    ($name:literal, $run:ident) => {
        Command {
            name: $name,
            help: concat!("helps with ", $name),
            usage: "[--secs N]\nLonger text.",
            run: $run,
            words: || alloc::vec!["list", "late"],
        }
    };
}

static COMMANDS: [Command; 6] = [
    command!("echo", echo),
    command!("fail", fail),
    command!("strict", strict),
    command!("stop", stop),
    command!("stress", echo),
    command!("interrupted", interrupted),
];

fn run(line: &str) -> (Outcome, String) {
    let buffer = Buffer::new();
    let outcome = Shell::new(&[&COMMANDS]).run(line, &buffer, &Cancel::new());
    (outcome, buffer.take())
}

#[test]
fn quotes_and_separators() {
    let p = |l| parse(l).unwrap();
    assert_eq!(p(" a  b;c ;; "), [alloc::vec!["a", "b"], alloc::vec!["c"]]);
    assert_eq!(p("a 'b ; c'\"d\" ''"), [alloc::vec!["a", "b ; cd", ""]]);
    assert!(p("").is_empty());
    assert_eq!(parse("a 'b").unwrap_err().0, "a quote ' is not closed");
}

#[test]
fn comments_and_lines() {
    let p = |l| parse(l).unwrap();
    assert_eq!(p("a b # c; d"), [["a", "b"]]);
    assert_eq!(p("# a"), p(""));
    assert_eq!(p("a;#b;\nc#d\n\n"), [["a"], ["c#d"]]);
    assert_eq!(p("'e #\nf' \"#\"#"), [["e #\nf", "##"]]);
    assert_eq!(run("echo 1 # it's; fail").1, "[1]\n");
}

#[test]
fn the_status_is_that_of_the_first_failure_and_all_commands_run() {
    let (o, text) = run("echo 1; fail; bogus; echo 2");
    assert_eq!(o.status, Status::Failed);
    assert!(
        text.starts_with("[1]\n") && text.ends_with("[2]\n"),
        "{text}"
    );
    assert_eq!(run("bogus; fail").0.status, Status::Usage);
    assert_eq!(run("echo").0.status, Status::Ok);
    assert_eq!(run("").0.status, Status::Ok);
    assert_eq!(run("echo 'x; fail").0.status, Status::Usage);
}

#[test]
fn poweroff_and_interrupt_end_the_line() {
    let (o, text) = run("fail; stop; echo 1");
    assert_eq!(
        (o.status, o.power_off, text.as_str()),
        (Status::Failed, true, "")
    );
    let (o, text) = run("interrupted; echo 1");
    assert_eq!((o.status, o.power_off), (Status::Failed, false));
    assert_eq!(text, "interrupted: interrupted\n");
}

#[test]
fn wrong_usage_says_what_is_accepted() {
    let (o, text) = run("strict --bogus");
    assert_eq!(o.status, Status::Usage);
    assert_eq!(
        text,
        "strict: unknown option '--bogus'; accepted: --secs\nusage: strict [--secs N]\n"
    );
}

#[test]
fn unknown_commands_get_the_nearest_names() {
    assert!(run("strss").1.contains("did you mean stress?"));
    assert!(run("st").1.contains("did you mean strict, stop, stress?"));
    assert_eq!(
        run("zzzzz").1,
        "unknown command 'zzzzz'; 'help' lists the commands\n"
    );
    assert_eq!(run("help zzzzz").0.status, Status::Usage);
}

#[test]
fn help_in_its_three_forms() {
    let (o, text) = run("help");
    assert_eq!(o.status, Status::Ok);
    assert!(
        COMMANDS
            .iter()
            .all(|c| text.contains(c.name) && text.contains(c.help))
    );
    assert_eq!(run("help stress").1, run("stress --secs --help").1);
    assert!(
        run("help stress")
            .1
            .ends_with("usage: stress [--secs N]\nLonger text.\n")
    );
}

#[test]
fn completion() {
    let shell = Shell::new(&[&COMMANDS]);
    assert_eq!(shell.complete("ec"), ["echo"]);
    assert_eq!(shell.complete("echo; st"), ["strict", "stop", "stress"]);
    assert_eq!(shell.complete("echo l"), ["list", "late"]);
    assert_eq!(shell.complete("echo list --"), ["--help"]);
    assert_eq!(shell.complete("help fa"), ["fail"]);
    assert!(shell.complete("nothing l").is_empty());
}

#[test]
fn distances() {
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("same", "same"), 0);
}

#[test]
fn help_is_asked_for_before_two_dashes_only() {
    assert_eq!(run("echo -h").1, run("echo --help").1);
    assert_eq!(run("echo x --help").1, run("help echo").1);
    assert_eq!(run("echo x -h").1, "[x|-h]\n");
    assert_eq!(run("echo x -- --help").1, "[x|--|--help]\n");
}
