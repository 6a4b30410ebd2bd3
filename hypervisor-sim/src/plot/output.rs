//! What is written: for each figure an SVG file and its data as CSV, all data as JSON, and the
//! page.

use std::path::{Path, PathBuf};

use serde_json::json;
use thiserror::Error;

use super::chart::draw;
use super::model::{Figure, Kind, Panel};
use super::page::{page, quantity};
use super::run::Run;

/// Why nothing, or not everything, was written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The folder.
    #[error("cannot write to the folder {path}: {cause}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file.
    #[error("cannot write {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Numbers that JSON cannot say.
    #[error("cannot say the data as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Data that CSV cannot say.
    #[error("cannot say the data as CSV: {0}")]
    Csv(#[from] ::csv::Error),
}

/// The columns of the data.
pub(super) const COLUMNS: [&str; 7] =
    ["quantity", "series", "x", "median", "least", "most", "rounds"];

/// The folder that everything is written to.
#[derive(Clone, Debug)]
pub struct Output {
    folder: PathBuf,
}

impl Output {
    /// A folder, made if it is not there. That it can be written to is tried at once: measuring
    /// takes minutes.
    ///
    /// # Errors
    /// If it cannot be made, or not be written to.
    pub fn create(folder: &Path) -> Result<Output, OutputError> {
        let failed = |cause| OutputError::Folder { path: folder.to_owned(), cause };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let output = Output { folder: folder.to_owned() };
        let page = output.page();
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&page)
            .map_err(|cause| OutputError::File { path: page, cause })?;
        Ok(output)
    }

    /// The page.
    pub fn page(&self) -> PathBuf {
        self.folder.join("index.html")
    }

    /// Writes everything.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, run: &Run, figures: &[Figure]) -> Result<(), OutputError> {
        for figure in figures {
            self.file(&format!("{}.svg", figure.id), &draw(figure, run).to_string())?;
            self.file(&format!("{}.csv", figure.id), &csv(figure)?)?;
        }
        let data = serde_json::to_string_pretty(&json!({ "run": run, "figures": figures }))?;
        self.file("data.json", &data)?;
        self.file("index.html", &page(run, figures))
    }

    fn file(&self, name: &str, content: &str) -> Result<(), OutputError> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).map_err(|cause| OutputError::File { path, cause })
    }
}

/// The data of a panel, a row for each point.
pub(super) fn rows(panel: &Panel) -> Vec<[String; COLUMNS.len()]> {
    let mut rows = Vec::new();
    for series in &panel.series {
        for point in &series.points {
            let x = match &panel.kind {
                Kind::StackedBars(names) => {
                    names.get(point.x as usize).cloned().unwrap_or_default()
                }
                Kind::Lines | Kind::Trace => format!("{}", tidy(point.x)),
            };
            let what = match panel.kind {
                Kind::StackedBars(_) if !panel.title.is_empty() => {
                    format!("{}, {}", quantity(panel), panel.title)
                }
                _ => quantity(panel).to_owned(),
            };
            let [median, least, most] =
                [point.median, point.least, point.most].map(|value| tidy(value).to_string());
            rows.push([
                what,
                series.name.clone(),
                x,
                median,
                least,
                most,
                point.rounds.to_string(),
            ]);
        }
    }
    rows
}

/// To six digits: what is beyond is noise, and hard to read.
fn tidy(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// The data of a figure as CSV (RFC 4180), a row for each point.
///
/// # Errors
/// Never for lack of memory or of room; the writer's interface has one.
pub fn csv(figure: &Figure) -> Result<String, ::csv::Error> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for panel in &figure.panels {
        for row in rows(panel) {
            writer.write_record(&row)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_are_kept() {
        assert_eq!(tidy(1234567.8), 1234570.0);
        assert_eq!(tidy(0.0078123456), 0.00781235);
        assert_eq!(tidy(-1.0), -1.0);
        assert_eq!(tidy(0.0), 0.0);
    }
}
