//! Tests of the files in `config/`, and of the messages for mistakes.

mod anything;
mod clouds;
mod files;
mod growth;
mod mistakes;
