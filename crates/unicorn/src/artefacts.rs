//! `cargo lambda-test`: which programs the samples are replayed on, those that cargo builds or those
//! that `sam build` made. Of the latter it first tells whether Lambda can run them, and whether
//! they are as small as they have to be; it changes nothing in them.

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
    /// Graviton.
    #[value(name = "arm64")]
    Arm64,
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86,
}

impl Architecture {
    /// That of this machine.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86 };

    /// The one that is written so in an ELF file.
    fn of_machine(machine: elf::Machine) -> Option<Self> {
        [Self::Arm64, Self::X86].into_iter().find(|known| known.machine() == machine)
    }

    /// As it stands in an ELF file.
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

/// A version of glibc that a program asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Glibc {
    /// Such as 2.34.
    Version(Vec<u32>),
    /// One without a number, such as `GLIBC_ABI_DT_RELR`, which only newer ones than 2.34 know:
    /// taken to be newer than all numbers.
    Other(String),
}

impl Glibc {
    /// Reads the name of a symbol version; `None` for one that is not glibc's.
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

/// What a function must keep to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest zip, in bytes.
    pub zip: u64,
    /// The glibc of the runtime.
    pub glibc: Glibc,
    /// The processor that the stack asks for.
    pub architecture: Architecture,
}

impl Limits {
    /// Those of this project on `provided.al2023`, whose glibc is 2.34:
    /// <https://docs.aws.amazon.com/linux/al2023/ug/core-glibc.html>.
    pub fn of(architecture: Architecture) -> Self {
        Self { zip: 3 * MIB, glibc: Glibc::Version(vec![2, 34]), architecture }
    }
}

/// Bytes.
pub const MIB: u64 = 1024 * 1024;

/// Which artefacts are meant.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What `sam build` built, .aws-sam/build, is checked and replayed, in place of a build by cargo:
    /// a program for every function, for the right processor, 3 MiB zipped at most, and no newer
    /// glibc than that of provided.al2023.
    #[arg(long)]
    built: Option<PathBuf>,
    /// The processor that it was built for; if not given, any, as long as it is one for all. What
    /// another one than this machine's needs is checked, and cannot be replayed.
    #[arg(long, requires = "built")]
    architecture: Option<Architecture>,
}

/// What is known of one function's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Size of the zip that SAM makes of it, in bytes.
    pub zip: u64,
    /// The newest glibc that it needs; `None` where it needs none.
    pub glibc: Option<Glibc>,
    /// Whether its table of symbols is gone, a tenth of its zip.
    pub stripped: bool,
    machine: elf::Machine,
}

impl Artefact {
    /// Reads a program of this size, zipped.
    ///
    /// # Errors
    /// When it is no ELF file of 64 bits.
    pub fn read(program: &[u8], zip: u64) -> anyhow::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(program)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, program)?;
        ensure!(!sections.is_empty(), "it has no section headers, which tell what it needs");
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

    /// Why it cannot be shipped, a sentence each; `name` is the function's.
    pub fn faults(&self, name: &str, limits: &Limits) -> Vec<String> {
        let mut faults = Vec::new();
        if self.zip > limits.zip {
            let (mut size, mut limit) = (mib(self.zip), mib(limits.zip));
            if size == limit {
                (size, limit) = (format!("{} bytes", self.zip), format!("{} bytes", limits.zip));
            }
            faults.push(format!("{name} is {size} zipped, and may be {limit}"));
        }
        if let Some(glibc) = self.glibc.as_ref().filter(|glibc| **glibc > limits.glibc) {
            faults.push(format!("{name} needs glibc {glibc}, and the runtime has {}", limits.glibc));
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

/// What was found of all functions.
#[derive(Debug)]
pub struct Report {
    /// The processor that all are held against.
    pub architecture: Architecture,
    /// A line for each function: its path, the size of its zip, the newest glibc that it needs.
    pub table: String,
    /// What keeps them from being shipped, a sentence each.
    pub faults: Vec<String>,
}

/// Where `sam build` puts the program of a function.
pub fn program(built: &Path, function: &Function) -> PathBuf {
    built.join(&function.path).join("bootstrap")
}

/// `cargo lambda-test`: replays the samples, and returns whether all went well.
///
/// # Errors
/// When something cannot be built or read.
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
    // By the names under which the local cloud looks for them.
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

/// Checks what `sam build` put into `built` for these functions: all for this architecture, or, if
/// none is given, for that of the first one.
///
/// # Errors
/// When a file that is there cannot be read.
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
            let fault = format!("{name} has no program: there is no {}; run `sam build`", path.display());
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
            Err(why) => faults.push(format!("{name} is no program for Lambda: {why:#}")),
        }
    }
    let of_first = || artefacts.iter().find_map(|(_, artefact)| Architecture::of_machine(artefact.machine));
    let architecture = architecture.or_else(of_first).unwrap_or(Architecture::HERE);
    let limits = Limits::of(architecture);
    faults.extend(artefacts.iter().flat_map(|(name, artefact)| artefact.faults(name, &limits)));
    Ok(Report { architecture, table, faults })
}

/// The size of a zip with this program alone, in bytes.
///
/// # Errors
/// When it cannot be read.
pub fn zip_of(program: &Path) -> anyhow::Result<u64> {
    Ok(END + entry(program, "bootstrap".len())?)
}

/// The size of a zip with all that is in `folder`.
fn zipped(folder: &Path) -> anyhow::Result<u64> {
    let mut size = END;
    for path in seed::files(folder)? {
        size += entry(&path, path.strip_prefix(folder)?.as_os_str().len())?;
    }
    Ok(size)
}

/// The end of a zip's directory (APPNOTE.TXT, 4.3).
const END: u64 = 22;

/// What a file takes in a zip, compressed as SAM does: deflate, level 6.
fn entry(path: &Path, name: usize) -> anyhow::Result<u64> {
    /// Local header and central directory entry of a file; the file's name stands in both.
    const FILE: u64 = 30 + 46;
    let mut encoder = DeflateEncoder::new(Count(0), Compression::new(6));
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.0 + FILE + 2 * name as u64)
}

/// Counts what is written.
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

    /// A program that is at hand: this test.
    fn program() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    /// What is known of it; a test is not stripped.
    fn artefact() -> Artefact {
        let read = Artefact::read(&program(), 1_000).unwrap();
        assert!(!read.stripped);
        Artefact { stripped: true, ..read }
    }

    /// Limits that this artefact just keeps to.
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
        assert_eq!(artefact.faults("F", &limits), ["F is 3145729 bytes zipped, and may be 3145728 bytes"]);
    }

    #[test]
    fn a_newer_glibc_than_the_runtimes_is_a_fault() {
        let artefact = artefact();
        let needed = artefact.glibc.clone().unwrap();
        let limits = Limits { glibc: Glibc::Version(vec![2, 1]), ..just(&artefact) };
        let fault = format!("F needs glibc {needed}, and the runtime has 2.1");
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
        // e_machine, the two bytes at 18, is all that tells it.
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
            // A small program that every machine has.
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
        // e_shnum, at 60: a program without section headers does not tell what it needs.
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
        // Whatever else is there is shipped, too: as large again, with six more characters of a name, twice.
        std::fs::create_dir(folder.path().join("other")).unwrap();
        std::fs::write(folder.path().join("other/bootstrap"), [b'a'; 100_000]).unwrap();
        assert_eq!(zipped(folder.path()).unwrap(), 2 * size - 22 + 2 * 6);
    }
}
