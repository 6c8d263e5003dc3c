//! Parquet files: tables as data hubs keep them.

use std::fs::File;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::de::DeserializeSeed;

use super::error::Stopped;
use super::file::Judge;
use super::row::RowSeed;
use super::select::{Selection, Unfit};
use super::source::Fields;

/// Hands over the rows of a Parquet file, a row group in memory at a time.
pub(super) fn read_rows(
    file: File,
    fields: &Fields,
    judge: Judge,
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let broken = |error: parquet::errors::ParquetError| Stopped::Format {
        line: None,
        column: None,
        message: format!("is not a whole Parquet file: {error}"),
    };
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    for row in reader.get_row_iter(None).map_err(broken)? {
        let row = row.map_err(broken)?;
        let row = RowSeed(fields)
            .deserialize(row.to_json_value())
            .map_err(|error| Unfit::Bad(error.to_string()))
            .and_then(judge);
        selection.take(row, |number| format!("row {number}"));
    }
    Ok(())
}
