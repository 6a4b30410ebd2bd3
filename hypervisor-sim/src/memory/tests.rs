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
