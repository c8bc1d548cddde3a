//! Files that no other user of the machine reads.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens a file that no other user reads, and creates it where it is missing. SQLite gives the
/// files beside a database the mode of the database.
///
/// # Errors
/// When it cannot be opened or created.
pub fn open(path: &Path) -> std::io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Writes a file that no other user reads.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = open(path)?;
    file.set_len(0)?;
    file.write_all(content)
}
