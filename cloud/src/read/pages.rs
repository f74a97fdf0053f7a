//! Reads lists that are longer than a page.

use crate::error::Error;
use crate::http::client::unreadable_answer;
use crate::http::params::Params;
use crate::transport::{Action, Permit, Read, Transport};
use crate::wire::{Chain, Page};
use reqwest::StatusCode;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Pages are no snapshot: an item deleted between pages shifts the rest, and a read may miss one. A
/// list whose length changed between pages is read again, up to this many attempts in all.
const ATTEMPTS: usize = 3;

/// Most pages read of one list, as a guard against an answer that never ends. No list of the API
/// is longer.
const MOST_PAGES: u32 = 2_000;

/// A numbered list of the API: its action and page size.
pub(crate) struct Listing<K, P: Page> {
    pub(crate) action: Action,
    pub(crate) page_size: u32,
    /// The ID that tells one item from another.
    pub(crate) key: fn(&P::Item) -> K,
}

impl<K: Ord, P: Page> Listing<K, P> {
    /// Reads all pages, each item once. `first` is the permit for the first call.
    ///
    /// Where the length changes in every attempt, the result is the union of all attempts: an item
    /// in no attempt does not exist, and an item deleted meanwhile may still be included.
    pub(crate) async fn list_all(
        &self,
        transport: &Transport,
        first: Permit,
        params: Params,
        deadline: Instant,
    ) -> Result<Read<Vec<P::Item>>, Error> {
        let mut began = None;
        let mut permit = Some(first);
        let mut union = BTreeMap::new();
        let pages = PageTimes::Until(deadline);
        for _ in 0..ATTEMPTS {
            let attempt = self.list_once(transport, permit.take(), &params, pages).await?;
            if attempt.steady {
                // Without the items of earlier attempts: some may be deleted by now.
                return Ok(Read {
                    value: attempt.items.into_values().collect(),
                    began: attempt.began,
                });
            }
            began.get_or_insert(attempt.began);
            union.extend(attempt.items);
        }
        Ok(Read { value: union.into_values().collect(), began: began.unwrap_or_else(Instant::now) })
    }

    /// Reads all pages, each item once, for a comparison: none if the pages shifted in every
    /// attempt, so that an item may be missing.
    pub(crate) async fn list_steady(
        &self,
        transport: &Transport,
        params: &Params,
        pages: PageTimes,
    ) -> Result<Option<Read<Vec<P::Item>>>, Error> {
        for _ in 0..ATTEMPTS {
            let attempt = self.list_once(transport, None, params, pages).await?;
            if attempt.steady {
                let value = attempt.items.into_values().collect();
                return Ok(Some(Read { value, began: attempt.began }));
            }
        }
        Ok(None)
    }

    async fn list_once(
        &self,
        transport: &Transport,
        mut permit: Option<Permit>,
        params: &Params,
        pages: PageTimes,
    ) -> Result<Attempt<K, P::Item>, Error> {
        let mut attempt = Attempt { items: BTreeMap::new(), began: Instant::now(), steady: true };
        let (mut number, mut length) = (1, None);
        loop {
            let deadline = pages.next_deadline().await;
            let permit = match permit.take() {
                Some(permit) => permit,
                None => transport.acquire_permit(self.action, deadline).await?,
            };
            let params = params.clone().with("PageNumber", number).with("PageSize", self.page_size);
            let read: Read<P> = transport.send_signed(permit, params, deadline).await?;
            if number == 1 {
                attempt.began = read.began;
            }
            let total = read.value.total_count();
            attempt.steady &= *length.get_or_insert(total) == total;
            let items = read
                .value
                .into_page_items()
                .map_err(|detail| unreadable_answer(self.action.name, StatusCode::OK, detail))?;
            let empty = items.is_empty();
            attempt.items.extend(items.into_iter().map(|item| ((self.key)(&item), item)));
            if empty || number * self.page_size >= total || number >= MOST_PAGES {
                attempt.steady &=
                    u32::try_from(attempt.items.len()).is_ok_and(|seen| seen == total);
                return Ok(attempt);
            }
            number += 1;
        }
    }
}

/// When the pages of a list are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageTimes {
    /// One after the other, all of them before this moment.
    Until(Instant),
    /// Spread, so that the list uses a part of the action's rate.
    Spread {
        /// Pause before each page.
        apart: Duration,
        /// Time limit of each page, its permit included.
        timeout: Duration,
    },
}

impl PageTimes {
    /// Waits until the next page may be read, and returns that page's deadline.
    async fn next_deadline(self) -> Instant {
        match self {
            Self::Until(deadline) => deadline,
            Self::Spread { apart, timeout } => {
                tokio::time::sleep(apart).await;
                Instant::now() + timeout
            }
        }
    }
}

struct Attempt<K, T> {
    items: BTreeMap<K, T>,
    began: Instant,
    /// The length stayed the same over all pages, and as many items were read.
    steady: bool,
}

/// Reads all pages of a list that continues at a token. `params` has the page size already.
pub(crate) async fn list_chain<C: Chain>(
    transport: &Transport,
    first: Permit,
    action: Action,
    params: Params,
    deadline: Instant,
) -> Result<Read<Vec<C::Item>>, Error> {
    let mut read: Read<C> = transport.send_signed(first, params.clone(), deadline).await?;
    let began = read.began;
    let mut all = Vec::new();
    for _ in 0..MOST_PAGES {
        let next = read.value.take_next_token();
        let items = read
            .value
            .into_chain_items()
            .map_err(|detail| unreadable_answer(action.name, StatusCode::OK, detail))?;
        all.extend(items);
        let Some(token) = next else {
            return Ok(Read { value: all, began });
        };
        read =
            transport.call_once(action, params.clone().with("NextToken", token), deadline).await?;
    }
    Err(unreadable_answer(action.name, StatusCode::OK, "the list does not end"))
}
