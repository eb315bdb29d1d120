//! A request as the small servers of this crate read it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

/// What somebody asks of a server.
pub(crate) struct Question {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Question {
    /// Reads one request of HTTP/1.1.
    pub(crate) fn read(connection: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(connection);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
        let mut question = Self { method, path, headers, body: String::new() };
        let length = question.header("content-length").parse().unwrap_or(0);
        reader.take(length).read_to_string(&mut question.body)?;
        Ok(question)
    }

    /// The header of this name, in lower case; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}
