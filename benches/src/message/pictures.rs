//! The results as a picture: messages per second by their size.

use super::{
    contender::Contender,
    operation::{Key, Operation},
    results::{Results, size},
};
use crate::pool::plot::{Figure, Line, Mark, Panel, Style};

impl Results {
    /// Each picture with the name of its file.
    pub fn pictures(&self) -> Vec<(String, String)> {
        Key::ALL
            .into_iter()
            .filter(|key| self.rows.iter().any(|row| row.key == *key))
            .map(|key| {
                let name = key.title().to_ascii_lowercase().replace('-', "");
                (format!("rates-{name}.svg"), self.picture(key).svg())
            })
            .collect()
    }

    fn picture(&self, key: Key) -> Figure {
        let panel = |operation: Operation| {
            let rows: Vec<_> =
                self.rows.iter().filter(|row| (row.operation, row.key) == (operation, key)).collect();
            let points = |contender| {
                let spreads =
                    rows.iter().enumerate().filter_map(|(place, row)| Some((place, row.of(contender)?)));
                let rate = |microseconds: f64| 1e6 / microseconds.max(f64::MIN_POSITIVE);
                spreads
                    .map(|(place, spread)| {
                        (place, rate(spread.median), Some((rate(spread.max), rate(spread.min))))
                    })
                    .collect()
            };
            Panel {
                title: operation.title().to_owned(),
                x_label: "message".into(),
                categories: rows.iter().map(|row| size(row.size)).collect(),
                y_label: "messages per second".into(),
                logarithmic: true,
                lines: Contender::ALL
                    .into_iter()
                    .map(|contender| Line { style: style(contender), points: points(contender) })
                    .filter(|line: &Line| !line.points.is_empty())
                    .collect(),
                levels: Vec::new(),
            }
        };
        let operations =
            Operation::ALL.into_iter().filter(|one| self.rows.iter().any(|row| row.operation == *one));
        Figure {
            title: format!("Whole messages, {}, one thread", key.title()),
            subtitle: format!("{}; {}", self.machine, self.date),
            panels: operations.map(panel).collect(),
            legend: Contender::ALL
                .into_iter()
                .map(|contender| (contender.title().replace('`', ""), style(contender)))
                .collect(),
        }
    }
}

fn style(contender: Contender) -> Style {
    let (colour, dashes) = match contender {
        Contender::Limit => ("#57606a", "2 3"),
        Contender::Ours => ("#0969da", ""),
        Contender::Openssl => ("#cf222e", ""),
        Contender::OpensslBinary => ("#cf222e", "5 4"),
        Contender::Process => ("#bc4c00", "2 3"),
        Contender::Gpgsm => ("#8250df", ""),
        Contender::Python => ("#1a7f37", ""),
    };
    Style { colour, dashes, mark: Mark::Disc }
}
