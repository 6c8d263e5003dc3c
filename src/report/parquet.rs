//! `requests.parquet`: the rows of `requests.csv` and what `requests.ndjson` adds that is one value a request, as a table for
//! data tools.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::model::RequestRow;

/// Requests in a row group: some megabytes in memory.
const GROUP: usize = 65_536;

/// The columns, in their order. Times are milliseconds since the cell began.
const SCHEMA: &str = "message request {
  required binary cell (UTF8);
  required int32 repeat;
  required binary stage (UTF8);
  required int64 index;
  required boolean measured;
  required binary request_id (UTF8);
  required binary prompt (UTF8);
  optional binary category (UTF8);
  required int32 turn;
  optional int32 user;
  required binary outcome (UTF8);
  optional int32 status;
  optional binary finish_reason (UTF8);
  optional binary error (UTF8);
  required double intended_ms;
  optional double dispatched_ms;
  optional double first_token_ms;
  optional double last_token_ms;
  required double finished_ms;
  optional double ttft_ms;
  optional double e2e_ms;
  optional double tpot_ms;
  optional int32 input_tokens;
  optional int32 output_tokens;
  optional int32 cached_tokens;
  optional int32 reasoning_tokens;
  required binary token_source (UTF8);
  required int32 output_events;
  required int64 bytes;
  required boolean reused;
  optional binary adapter (UTF8);
  required binary interface (UTF8);
}";

/// Writes a table of requests, a row group in memory at a time.
///
/// # Errors
/// The sink cannot be written.
pub fn requests(rows: impl Iterator<Item = RequestRow>, sink: impl Write + Send) -> io::Result<()> {
    written(rows, sink).map_err(io::Error::other)
}

fn written(
    mut rows: impl Iterator<Item = RequestRow>,
    sink: impl Write + Send,
) -> Result<(), ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("scenario ", env!("CARGO_PKG_VERSION")).to_owned());
    let mut file = SerializedFileWriter::new(sink, schema, Arc::new(properties.build()))?;
    loop {
        let group: Vec<RequestRow> = rows.by_ref().take(GROUP).collect();
        if group.is_empty() {
            break;
        }
        let mut columns = file.next_row_group()?;
        write_group(&mut columns, &group)?;
        columns.close()?;
    }
    file.close()?;
    Ok(())
}

/// In the order of the schema.
fn write_group<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[RequestRow],
) -> Result<(), ParquetError> {
    let mut table = Table { group, rows };
    table.text(|row| &row.cell)?;
    table.all::<Int32Type>(|row| row.repeat as i32)?;
    table.text(|row| &row.stage)?;
    table.all::<Int64Type>(|row| row.index as i64)?;
    table.all::<BoolType>(|row| row.more.measured)?;
    table.text(|row| &row.more.request_id)?;
    table.text(|row| &row.more.prompt)?;
    table.some_text(|row| row.category.as_deref())?;
    table.all::<Int32Type>(|row| row.more.turn as i32)?;
    table.some::<Int32Type>(|row| row.more.user.map(|user| user as i32))?;
    table.text(|row| &row.outcome)?;
    table.some::<Int32Type>(|row| row.status.map(i32::from))?;
    table.some_text(|row| row.more.finish_reason.as_deref())?;
    table.some_text(|row| row.more.error.as_deref())?;
    table.all::<DoubleType>(|row| row.intended_ms)?;
    table.some::<DoubleType>(|row| row.dispatched_ms)?;
    table.some::<DoubleType>(|row| row.first_token_ms)?;
    table.some::<DoubleType>(|row| row.last_token_ms)?;
    table.all::<DoubleType>(|row| row.finished_ms)?;
    table.some::<DoubleType>(|row| row.ttft_ms)?;
    table.some::<DoubleType>(|row| row.e2e_ms)?;
    table.some::<DoubleType>(|row| row.tpot_ms)?;
    let count = |count: Option<u32>| count.map(|count| count as i32);
    table.some::<Int32Type>(|row| count(row.input_tokens))?;
    table.some::<Int32Type>(|row| count(row.output_tokens))?;
    table.some::<Int32Type>(|row| count(row.more.cached_tokens))?;
    table.some::<Int32Type>(|row| count(row.more.reasoning_tokens))?;
    table.text(|row| &row.token_source)?;
    table.all::<Int32Type>(|row| row.more.output_events as i32)?;
    table.all::<Int64Type>(|row| row.more.bytes as i64)?;
    table.all::<BoolType>(|row| row.reused)?;
    table.some_text(|row| row.adapter.as_deref())?;
    table.text(|row| &row.interface)
}

/// A row group that is written column by column.
struct Table<'a, 'b, W: Write + Send> {
    group: &'a mut SerializedRowGroupWriter<'b, W>,
    rows: &'a [RequestRow],
}

impl<W: Write + Send> Table<'_, '_, W> {
    fn all<T: DataType>(
        &mut self,
        value: impl Fn(&RequestRow) -> T::T,
    ) -> Result<(), ParquetError> {
        let values: Vec<T::T> = self.rows.iter().map(value).collect();
        self.column::<T>(&values, None)
    }

    fn some<T: DataType>(
        &mut self,
        value: impl Fn(&RequestRow) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let all: Vec<Option<T::T>> = self.rows.iter().map(value).collect();
        let there: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<T::T> = all.into_iter().flatten().collect();
        self.column::<T>(&values, Some(&there))
    }

    fn text(&mut self, value: impl Fn(&RequestRow) -> &str) -> Result<(), ParquetError> {
        self.all::<ByteArrayType>(|row| ByteArray::from(value(row)))
    }

    fn some_text(
        &mut self,
        value: impl Fn(&RequestRow) -> Option<&str>,
    ) -> Result<(), ParquetError> {
        self.some::<ByteArrayType>(|row| value(row).map(ByteArray::from))
    }

    fn column<T: DataType>(
        &mut self,
        values: &[T::T],
        there: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = self.group.next_column()? else {
            return Err(ParquetError::General(
                "the schema has fewer columns".to_owned(),
            ));
        };
        column.typed::<T>().write_batch(values, there, None)?;
        column.close()
    }
}
