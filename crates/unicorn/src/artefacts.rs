//! `cargo lambda-test`: replays the samples on the programs that cargo builds, or on those that `sam build`
//! built. It first checks whether Lambda can run the latter, and whether they are small enough. It never
//! changes them.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use local_cloud::up::Function;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::FileHeader as _;

use crate::{build, samples, seed};

/// The processors of Lambda, as templates name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    #[value(name = "arm64")]
    Arm64,
    #[value(name = "x86_64")]
    X86,
}

impl Architecture {
    /// The processor of this machine.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86 };

    fn of_machine(machine: elf::Machine) -> Option<Self> {
        [Self::Arm64, Self::X86].into_iter().find(|known| known.machine() == machine)
    }

    /// Its number in an ELF file.
    const fn machine(self) -> elf::Machine {
        match self {
            Self::Arm64 => elf::EM_AARCH64,
            Self::X86 => elf::EM_X86_64,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arm64 => "arm64",
            Self::X86 => "x86_64",
        })
    }
}

/// A version of glibc that a program needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Glibc {
    /// Such as 2.34.
    Version(Vec<u32>),
    /// One without a number, such as `GLIBC_ABI_DT_RELR`. Only versions after 2.34 have such names, so they
    /// count as newer than any number.
    Other(String),
}

impl Glibc {
    /// Reads the name of a symbol version; `None` if it is not glibc's.
    fn read(name: &str) -> Option<Self> {
        let version = name.strip_prefix("GLIBC_")?;
        let numbers: Result<_, _> = version.split('.').map(str::parse).collect();
        Some(numbers.map_or_else(|_| Self::Other(name.to_owned()), Self::Version))
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                f.write_str(&numbers.join("."))
            }
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// The limits of a function's program.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maximum size of its zip, in bytes.
    pub zip: u64,
    /// The glibc of the runtime.
    pub glibc: Glibc,
    /// The processor of the stack.
    pub architecture: Architecture,
}

impl Limits {
    /// The limits of this project on `provided.al2023`, which has glibc 2.34:
    /// <https://docs.aws.amazon.com/linux/al2023/ug/core-glibc.html>.
    pub fn of(architecture: Architecture) -> Self {
        Self { zip: 3 * MIB, glibc: Glibc::Version(vec![2, 34]), architecture }
    }
}

/// Bytes.
pub const MIB: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Tests the programs that `sam build` built in this folder (.aws-sam/build) instead of building with cargo.
    /// Also checks that every function has a program for the right processor, at most 3 MiB zipped, that
    /// needs no newer glibc than provided.al2023 has.
    #[arg(long)]
    built: Option<PathBuf>,
    /// The processor that all programs must be built for; by default, that of the first one. Programs for
    /// another processor than this machine's are only checked, not run.
    #[arg(long, requires = "built")]
    architecture: Option<Architecture>,
}

/// One function's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Size of the zip that SAM makes of it, in bytes.
    pub zip: u64,
    /// The newest glibc that it needs; `None` where it needs none.
    pub glibc: Option<Glibc>,
    /// Whether it has no symbol table, which would be a tenth of its zip.
    pub stripped: bool,
    machine: elf::Machine,
}

impl Artefact {
    /// Reads a 64-bit ELF program; `zip` is its size when zipped.
    pub fn read(program: &[u8], zip: u64) -> anyhow::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(program)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, program)?;
        ensure!(!sections.is_empty(), "it has no section headers, so its needs are unknown");
        let mut glibc = None;
        if let Some((mut needs, strings)) = sections.gnu_verneed(endian, program)? {
            let strings = sections.strings(endian, program, strings)?;
            while let Some((_, mut versions)) = needs.next()? {
                while let Some(version) = versions.next()? {
                    let name = String::from_utf8_lossy(version.name(endian, strings)?);
                    glibc = glibc.max(Glibc::read(&name));
                }
            }
        }
        let stripped = sections.symbols(endian, program, elf::SHT_SYMTAB)?.is_empty();
        Ok(Self { zip, glibc, stripped, machine: header.e_machine(endian) })
    }

    /// The reasons why it cannot be deployed, one sentence each; `name` is the function's.
    pub fn faults(&self, name: &str, limits: &Limits) -> Vec<String> {
        let mut faults = Vec::new();
        if self.zip > limits.zip {
            let (mut size, mut limit) = (mib(self.zip), mib(limits.zip));
            if size == limit {
                (size, limit) = (format!("{} bytes", self.zip), format!("{} bytes", limits.zip));
            }
            faults.push(format!("{name} is {size} zipped; the limit is {limit}"));
        }
        if let Some(glibc) = self.glibc.as_ref().filter(|glibc| **glibc > limits.glibc) {
            faults.push(format!("{name} needs glibc {glibc}; the runtime has {}", limits.glibc));
        }
        if !self.stripped {
            faults.push(format!("{name} is not stripped of its symbols"));
        }
        if self.machine != limits.architecture.machine() {
            let built = Architecture::of_machine(self.machine);
            let built = built.map_or_else(|| format!("ELF machine {}", self.machine.0), |it| it.to_string());
            faults.push(format!("{name} is built for {built}, not for {}", limits.architecture));
        }
        faults
    }
}

/// The result of checking all functions.
#[derive(Debug)]
pub struct Report {
    /// The processor that all must be built for.
    pub architecture: Architecture,
    /// A line for each function: its path, the size of its zip, the newest glibc that it needs.
    pub table: String,
    /// The reasons why they cannot be deployed, one sentence each.
    pub faults: Vec<String>,
}

/// The path at which `sam build` puts the program of a function.
pub fn program(built: &Path, function: &Function) -> PathBuf {
    built.join(&function.path).join("bootstrap")
}

/// `cargo lambda-test`: replays the samples, and returns whether all passed.
pub async fn run(project: &Path, options: &Options) -> anyhow::Result<bool> {
    const ROOT: &str = "template.yaml";
    let Some(built) = &options.built else {
        return replay(project, &build::functions(project, ROOT, "local").await?).await;
    };
    ensure!(built.is_dir(), "nothing is built in {}; run `sam build`", built.display());
    let functions = local_cloud::up::functions(project, ROOT, "local")?;
    let report = check(built, &functions, options.architecture)?;
    print!("{}", report.table);
    for fault in &report.faults {
        eprintln!("error: {fault}");
    }
    if !report.faults.is_empty() {
        return Ok(false);
    }
    if report.architecture != Architecture::HERE {
        println!(
            "Built for {}: checked, but no sample was replayed, since this machine cannot run it.",
            report.architecture
        );
        return Ok(true);
    }
    // The local cloud looks for the programs under these names.
    let links = tempfile::tempdir()?;
    for function in &functions {
        let program = std::path::absolute(program(built, function))?;
        symlink(program, links.path().join(&function.binary))?;
    }
    replay(project, links.path()).await
}

async fn replay(project: &Path, binaries: &Path) -> anyhow::Result<bool> {
    let report = samples::replay(project, binaries).await?;
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(report.failed == 0)
}

/// Checks the programs of these functions in `built`: all for this architecture, or, if none is given, for that
/// of the first one.
pub fn check(
    built: &Path,
    functions: &[Function],
    architecture: Option<Architecture>,
) -> anyhow::Result<Report> {
    let (mut table, mut faults, mut artefacts) = (String::new(), Vec::new(), Vec::new());
    // Writing to a String does not fail.
    let _ = writeln!(table, "{:<52} {:>9} {:>6}", "function", "zip", "glibc");
    for function in functions {
        let (name, path) = (&function.path, program(built, function));
        if !path.is_file() {
            let fault = format!("{name} has no program at {}; run `sam build`", path.display());
            faults.push(fault);
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match Artefact::read(&bytes, zipped(&built.join(name))?) {
            Ok(artefact) => {
                let glibc = artefact.glibc.as_ref().map_or("none".to_owned(), ToString::to_string);
                let _ = writeln!(table, "{name:<52} {:>9} {glibc:>6}", mib(artefact.zip));
                artefacts.push((name, artefact));
            }
            Err(why) => faults.push(format!("{name} is not a program for Lambda: {why:#}")),
        }
    }
    let of_first = || artefacts.iter().find_map(|(_, artefact)| Architecture::of_machine(artefact.machine));
    let architecture = architecture.or_else(of_first).unwrap_or(Architecture::HERE);
    let limits = Limits::of(architecture);
    faults.extend(artefacts.iter().flat_map(|(name, artefact)| artefact.faults(name, &limits)));
    Ok(Report { architecture, table, faults })
}

/// The size of a zip with only this program, in bytes.
pub fn zip_of(program: &Path) -> anyhow::Result<u64> {
    Ok(END + entry(program, "bootstrap".len())?)
}

/// The size of a zip with all files of `folder`.
fn zipped(folder: &Path) -> anyhow::Result<u64> {
    let mut size = END;
    for path in seed::files(folder)? {
        size += entry(&path, path.strip_prefix(folder)?.as_os_str().len())?;
    }
    Ok(size)
}

/// The end of a zip's directory (APPNOTE.TXT, 4.3).
const END: u64 = 22;

/// The size of a file in a zip, compressed as SAM does: deflate, level 6.
fn entry(path: &Path, name: usize) -> anyhow::Result<u64> {
    /// The local header and the central directory entry of a file; both contain its name.
    const FILE: u64 = 30 + 46;
    let mut encoder = DeflateEncoder::new(Count(0), Compression::new(6));
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.0 + FILE + 2 * name as u64)
}

/// Counts the bytes written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The program of this test.
    fn program() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    /// The program of this test, as if it were stripped.
    fn artefact() -> Artefact {
        let read = Artefact::read(&program(), 1_000).unwrap();
        assert!(!read.stripped);
        Artefact { stripped: true, ..read }
    }

    /// Limits that this artefact meets exactly.
    fn just(artefact: &Artefact) -> Limits {
        let glibc = artefact.glibc.clone().expect("a test is linked with glibc");
        Limits { zip: artefact.zip, glibc, architecture: Architecture::HERE }
    }

    #[test]
    fn a_program_within_all_limits_has_no_fault() {
        let artefact = artefact();
        assert_eq!(artefact.faults("F", &just(&artefact)), [""; 0]);
    }

    #[test]
    fn symbols_that_were_left_in_are_a_fault() {
        let artefact = Artefact::read(&program(), 1_000).unwrap();
        assert_eq!(artefact.faults("F", &just(&artefact)), ["F is not stripped of its symbols"]);
        let shell = Artefact::read(&std::fs::read("/bin/sh").unwrap(), 1_000).unwrap();
        assert!(shell.stripped);
    }

    #[test]
    fn a_byte_too_many_is_a_fault_with_both_sizes() {
        let artefact = Artefact { zip: 3 * MIB + 1, ..artefact() };
        let limits = Limits { zip: 3 * MIB, ..just(&artefact) };
        assert_eq!(artefact.faults("F", &limits), ["F is 3145729 bytes zipped; the limit is 3145728 bytes"]);
    }

    #[test]
    fn a_newer_glibc_than_the_runtimes_is_a_fault() {
        let artefact = artefact();
        let needed = artefact.glibc.clone().unwrap();
        let limits = Limits { glibc: Glibc::Version(vec![2, 1]), ..just(&artefact) };
        let fault = format!("F needs glibc {needed}; the runtime has 2.1");
        assert_eq!(artefact.faults("F", &limits), [fault]);
    }

    #[test]
    fn a_program_for_another_processor_is_a_fault() {
        let mut program = program();
        let artefact = artefact();
        let other =
            if Architecture::HERE == Architecture::X86 { Architecture::Arm64 } else { Architecture::X86 };
        let limits = Limits { architecture: other, ..just(&artefact) };
        let fault = format!("F is built for {}, not for {other}", Architecture::HERE);
        assert_eq!(artefact.faults("F", &limits), [fault]);
        // e_machine, the two bytes at 18, is the only difference.
        program[18..20].copy_from_slice(&other.machine().0.to_le_bytes());
        let patched = Artefact { stripped: true, ..Artefact::read(&program, 1_000).unwrap() };
        assert_eq!(patched.faults("F", &limits), [""; 0]);
    }

    #[test]
    fn without_a_word_all_are_for_one_processor_whichever() {
        let built = tempfile::tempdir().unwrap();
        let here = Architecture::HERE;
        let other = if here == Architecture::X86 { Architecture::Arm64 } else { Architecture::X86 };
        let functions = ["A", "B"].map(|path| Function {
            path: path.into(),
            binary: path.into(),
            variables: BTreeMap::new(),
        });
        let put = |path: &str, architecture: Architecture| {
            // A small program that exists on every machine.
            let mut program = std::fs::read("/bin/sh").unwrap();
            program[18..20].copy_from_slice(&architecture.machine().0.to_le_bytes());
            std::fs::create_dir_all(built.path().join(path)).unwrap();
            std::fs::write(built.path().join(path).join("bootstrap"), program).unwrap();
        };
        let faults = |architecture| {
            let report = check(built.path(), &functions, architecture).unwrap();
            let faults = report.faults.into_iter().filter(|fault| fault.contains("is built for"));
            (report.architecture, faults.collect::<Vec<_>>())
        };
        put("A", other);
        put("B", other);
        assert_eq!(faults(None), (other, vec![]));
        put("B", here);
        assert_eq!(faults(None), (other, vec![format!("B is built for {here}, not for {other}")]));
        assert_eq!(faults(Some(here)), (here, vec![format!("A is built for {other}, not for {here}")]));
    }

    #[test]
    fn versions_of_glibc_order_by_their_numbers_and_those_without_are_the_newest() {
        let read = |name| Glibc::read(name).unwrap();
        let names =
            ["GLIBC_2.2.5", "GLIBC_2.4", "GLIBC_2.30", "GLIBC_2.34", "GLIBC_2.34.1", "GLIBC_ABI_DT_RELR"];
        assert!(names.map(read).is_sorted());
        assert_eq!(Glibc::read("GCC_3.0"), None);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(Artefact::read(b"#!/bin/sh\n", 10).is_err());
        assert!(Artefact::read(&program()[..100], 100).is_err());
        // e_shnum, at 60: without section headers the needs of a program are unknown.
        let mut program = program();
        program[40..48].fill(0);
        program[60..62].fill(0);
        assert!(Artefact::read(&program, 1_000).is_err());
    }

    #[test]
    fn the_zip_is_as_large_as_python_makes_it() {
        // python3: zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED).writestr("bootstrap", b"a" * 100_000)
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bootstrap"), [b'a'; 100_000]).unwrap();
        let size = zipped(folder.path()).unwrap();
        assert!(size.abs_diff(231) < 20, "{size}");
        // Other files in the folder are deployed too: the same size again, and a name that is six characters
        // longer, twice.
        std::fs::create_dir(folder.path().join("other")).unwrap();
        std::fs::write(folder.path().join("other/bootstrap"), [b'a'; 100_000]).unwrap();
        assert_eq!(zipped(folder.path()).unwrap(), 2 * size - 22 + 2 * 6);
    }
}
