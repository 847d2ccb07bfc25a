//! Plain tables, and the two things said of a row of measurements: its median and its range.

use std::fmt;

/// Measurements of one thing; shown as `median (least..most)`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    values: Vec<f64>,
}

impl Spread {
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
    }

    /// Zero of nothing.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        let Some(upper) = self.values.get(middle) else { return 0.0 };
        if self.values.len().is_multiple_of(2) {
            f64::midpoint(self.values[middle - 1], *upper)
        } else {
            *upper
        }
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut spread = Self::default();
        values.into_iter().for_each(|value| spread.push(value));
        spread
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(least), Some(most)) = (self.values.first(), self.values.last()) else {
            return f.write_str("-");
        };
        let text = if least.total_cmp(most).is_eq() {
            number(*least)
        } else {
            format!("{} ({}..{})", number(self.median()), number(*least), number(*most))
        };
        f.pad(&text)
    }
}

/// No more digits than a noisy machine can mean.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Prints rows below each other, the first column to the left, the others to the right.
pub(crate) fn print(heading: &str, rows: &[Vec<String>]) {
    println!("\n{heading}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &if column == 0 {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            };
        }
        println!("{}", line.trim_end());
    }
}

/// A row of anything that can be shown.
pub(crate) fn row<const N: usize>(cells: [&dyn fmt::Display; N]) -> Vec<String> {
    cells.map(ToString::to_string).to_vec()
}
