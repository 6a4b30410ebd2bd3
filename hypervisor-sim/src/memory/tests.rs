//! Windows, runs and their bounds.

use xenvelope_grant::Words as _;

use super::*;

#[test]
fn a_window_over_scattered_pages_reads_them_in_the_order_given() {
    let mut run = PageRun::map(4).expect("four pages");
    for page in 0..4 {
        run.bytes_mut()[page * PAGE_SIZE] = page as u8 + 1;
    }
    let window = run.memory().window([2, 0], false);
    assert_eq!(window.size(), 2 * PAGE_SIZE);
    assert_eq!(window.load_u32(0, Ordering::Relaxed), 3);
    assert_eq!(window.load_u32(PAGE_SIZE, Ordering::Relaxed), 1);
    let mut out = [0; 12];
    window.copy_out(PAGE_SIZE - 4, &mut out);
    assert_eq!(out, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn words_that_are_loaded_together_are_those_that_are_loaded_one_by_one() {
    let mut run = PageRun::map(3).expect("three pages");
    for (at, byte) in run.bytes_mut().iter_mut().enumerate() {
        *byte = (at / 8 % 251) as u8;
    }
    for frames in [[0, 1], [2, 0]] {
        let window = run.memory().window(frames, false);
        // In a page, across two, and up to the end.
        for at in [0, 8, PAGE_SIZE - 16, 2 * PAGE_SIZE - 24] {
            let together: [u64; 3] = window.load_u64s(at, Ordering::Acquire);
            let alone = [0, 8, 16].map(|word| window.load_u64(at + word, Ordering::Acquire));
            assert_eq!(together, alone, "{at} of {frames:?}");
        }
    }
}

#[test]
#[should_panic(expected = "8 bytes at 4096")]
fn words_together_of_which_one_is_beyond_the_end_panic() {
    let run = PageRun::map(1).expect("a page");
    let _: [u64; 3] = run.window(1).load_u64s(PAGE_SIZE - 16, Ordering::Relaxed);
}

#[test]
#[should_panic(expected = "8 bytes at 4")]
fn words_together_that_are_not_aligned_panic() {
    let run = PageRun::map(1).expect("a page");
    let _: [u64; 2] = run.window(1).load_u64s(4, Ordering::Relaxed);
}

#[test]
#[should_panic(expected = "read-only")]
fn a_store_to_a_read_only_window_panics() {
    let run = PageRun::map(1).expect("a page");
    run.memory().window([0], false).store_u32(0, 1, Ordering::Relaxed);
}

#[test]
#[should_panic(expected = "8 bytes at 4092")]
fn a_word_beyond_the_end_panics() {
    let run = PageRun::map(1).expect("a page");
    run.window(1).load_u64(PAGE_SIZE - 4, Ordering::Relaxed);
}

#[test]
fn splitting_leaves_every_page_in_one_run() {
    let mut rest = PageRun::map(5).expect("five pages");
    let front = rest.split_front(2).expect("two of five");
    assert_eq!((front.first(), front.pages()), (0, 2));
    assert_eq!((rest.first(), rest.pages()), (2, 3));
    assert!(rest.split_front(4).is_none());
}

#[test]
fn copies_in_and_out_of_words_keep_the_byte_order() {
    let run = PageRun::map(1).expect("a page");
    let window = run.window(1);
    let bytes: Vec<u8> = (0..20).collect();
    window.copy_in(4, &bytes);
    let mut out = [0; 20];
    window.copy_out(4, &mut out);
    assert_eq!(out.as_slice(), bytes);
    assert_eq!(window.load_u16(4, Ordering::Relaxed), 0x0100);
}
