//! Files that other users of the machine cannot read.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens a file, or creates it. SQLite gives the files beside a database the mode of the database.
pub fn open(path: &Path) -> std::io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Replaces the content of a file.
pub fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = open(path)?;
    file.set_len(0)?;
    file.write_all(content)
}
