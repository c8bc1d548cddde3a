//! Shared code of the two differential tests, which scripts/referees runs. Our own code and the program that a
//! language comes from answer many generated cases.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// `REFEREE_SEED` sets another.
const DEFAULT_SEED: u64 = 20_261_130;

/// The seed of this run, and how many cases to generate (`REFEREE_CASES`).
pub fn seed_and_cases(default: usize) -> (u64, usize) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    (
        number("REFEREE_SEED").unwrap_or(DEFAULT_SEED),
        number("REFEREE_CASES").map_or(default, |cases| cases as usize),
    )
}

/// The generator of one case. It does not depend on the other cases, so a seed repeats each case.
pub fn generator(seed: u64, case: usize) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(case as u64))
}

/// Runs a program in the folder of the referees; it answers a line for each line.
pub fn ask(program: &str, arguments: &[&str], lines: &[String]) -> Vec<String> {
    let folder = std::env::var("REFEREES").expect("run by scripts/referees");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answers = String::new();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all((lines.join("\n") + "\n").as_bytes()).unwrap());
        output.read_to_string(&mut answers).unwrap();
    });
    assert!(child.wait().unwrap().success(), "{program} failed");
    let answers: Vec<String> = answers.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len(), "{program} does not answer every line");
    answers
}

/// A case with both answers; `None` is an error, whatever its text.
#[derive(Debug)]
pub struct Verdict<T> {
    pub source: String,
    /// Whether the source is one of the project's, where no difference is excused.
    pub own: bool,
    /// The input of the source, for a reader.
    #[allow(dead_code, reason = "it is printed")]
    pub sees: String,
    pub ours: Option<T>,
    pub theirs: Option<T>,
}

/// A known difference.
pub struct Known<T> {
    pub reason: &'static str,
    /// A source that shows it. Where it no longer does, the test fails.
    pub example: &'static str,
    /// Which other differences are excused. It must look at both answers: the text of a source excuses
    /// nothing.
    pub covers: fn(&Verdict<T>) -> bool,
}

/// For [`Known::covers`] where the generated cases avoid the difference.
pub fn example_only<T>(_: &Verdict<T>) -> bool {
    false
}

/// As a share of the cases. A difference that is excused more often hides others.
const MAX_EXCUSED: f64 = 0.01;

/// Counts the cases. Fails on an unknown difference, and on a known one that no longer occurs or occurs too
/// often.
pub fn judge<T: PartialEq + Debug>(language: &str, seed: u64, verdicts: Vec<Verdict<T>>, known: &[Known<T>]) {
    let cases = verdicts.len();
    let errors = verdicts.iter().filter(|verdict| verdict.theirs.is_none()).count();
    let mut explained = BTreeMap::new();
    let mut unexplained = Vec::new();
    for verdict in verdicts.into_iter().filter(|verdict| verdict.ours != verdict.theirs) {
        let excused = |known: &Known<T>| verdict.source == known.example || (known.covers)(&verdict);
        match known.iter().position(|known| !verdict.own && excused(known)) {
            Some(index) => *explained.entry(index).or_insert(0_usize) += 1,
            None => unexplained.push(verdict),
        }
    }
    let differences: usize = explained.values().sum();
    println!(
        "{language}: {cases} cases, of which {errors} are errors; {differences} known differences, {} unexplained",
        unexplained.len()
    );
    for (index, count) in &explained {
        println!("  {count} times: {}", known[*index].reason);
    }
    unexplained.sort_by_key(|verdict| verdict.source.len());
    for verdict in unexplained.iter().take(5) {
        println!("unexplained: {verdict:#?}");
    }
    assert!(unexplained.is_empty(), "{language}: REFEREE_SEED={seed} scripts/referees shows this again");
    for (index, known) in known.iter().enumerate() {
        assert!(
            explained.contains_key(&index),
            "{language}: this difference no longer occurs: {}",
            known.reason
        );
        let share = (explained[&index] - 1) as f64 / cases as f64;
        assert!(share <= MAX_EXCUSED, "{language}: this difference occurs too often: {}", known.reason);
    }
}
