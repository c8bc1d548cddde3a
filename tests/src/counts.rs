//! Reads the table of counts in `docs/cost.md` and compares it with measured counts. No I/O.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// How often each thing happened for which AWS charges.
pub type Counts = BTreeMap<String, f64>;

/// The row that varies from run to run, because durations and ids have different numbers of digits.
pub const LOGS: &str = "log data, KB";

/// How far a measured value of [`LOGS`] may differ, as a share of the documented value.
const ROUGH: f64 = 0.15;

/// The columns of the table below the heading `## Counts`, each with its values by the name of the row.
///
/// # Errors
/// When there is no such table, or a cell is no number.
pub fn read(document: &str) -> anyhow::Result<BTreeMap<String, Counts>> {
    let (_, section) = document.split_once("\n## Counts\n").context("there is no heading `## Counts`")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = section.lines().filter(|line| line.starts_with('|')).map(cells);
    let head = rows.next().context("there is no table below `## Counts`")?;
    let mut columns: BTreeMap<String, Counts> = BTreeMap::new();
    for row in rows.filter(|row| !row.iter().all(|cell| cell.trim_matches(['-', ':']).is_empty())) {
        ensure!(row.len() == head.len(), "a row of the counts has {} cells: {}", row.len(), row[0]);
        for (column, cell) in head.iter().zip(&row).skip(1) {
            let number =
                cell.parse().with_context(|| format!("{column}, {}: {cell} is no number", row[0]))?;
            columns.entry((*column).to_owned()).or_default().insert(row[0].to_owned(), number);
        }
    }
    Ok(columns)
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// The differences between a column of the document and the measured counts, as sentences.
pub fn differences(column: &str, documented: &Counts, measured: &Counts) -> Vec<String> {
    let mut names: Vec<&String> = documented.keys().chain(measured.keys()).collect();
    names.sort();
    names.dedup();
    let value = |counts: &Counts, name: &str| counts.get(name).copied();
    let differing = names.into_iter().filter_map(|name| {
        let (documented, seen) = (value(documented, name), value(measured, name));
        let same = match (documented, seen) {
            (Some(documented), Some(seen)) if name == LOGS => (documented - seen).abs() <= ROUGH * documented,
            (documented, seen) => documented == seen,
        };
        let shown = |value: Option<f64>| value.map_or("nothing".to_owned(), |value| value.to_string());
        (!same).then(|| {
            format!("{column}: {name} is {} in docs/cost.md, and was {}", shown(documented), shown(seen))
        })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Cost\n\n## Counts\n\nSome words.\n\n| | create | search |\n|---|---:|---:|\n| invocations | 2 | 1 |\n| log data, KB | 10.0 | 1 |\n\n## Prices\n\n| | create |\n|---|---|\n| invocations | 9 |\n";

    fn counts(entries: &[(&str, f64)]) -> Counts {
        entries.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn the_table_is_read_by_column_and_no_other_table_is() {
        let columns = read(DOCUMENT).unwrap();
        assert_eq!(columns.keys().collect::<Vec<_>>(), ["create", "search"]);
        assert_eq!(columns["create"], counts(&[("invocations", 2.0), (LOGS, 10.0)]));
        assert!(read("# Cost\n").unwrap_err().to_string().contains("## Counts"));
        assert!(
            read(&DOCUMENT.replace("| 2 |", "| two |")).unwrap_err().to_string().contains("two is no number")
        );
    }

    #[test]
    fn a_number_that_differs_or_is_missing_on_either_side_is_reported() {
        let documented = counts(&[("invocations", 2.0), ("read units", 1.0)]);
        assert_eq!(differences("create", &documented, &documented), [""; 0]);
        assert_eq!(
            differences("create", &documented, &counts(&[("invocations", 3.0), ("S3 requests", 1.0)])),
            [
                "create: S3 requests is nothing in docs/cost.md, and was 1",
                "create: invocations is 2 in docs/cost.md, and was 3",
                "create: read units is 1 in docs/cost.md, and was nothing",
            ]
        );
    }

    #[test]
    fn log_data_may_be_a_little_more_or_less() {
        let documented = counts(&[(LOGS, 10.0)]);
        assert!(differences("create", &documented, &counts(&[(LOGS, 11.4)])).is_empty());
        assert_eq!(differences("create", &documented, &counts(&[(LOGS, 11.6)])).len(), 1);
    }
}
