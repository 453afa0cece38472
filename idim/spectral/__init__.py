"""What a training changed: spectra of tuned minus base, judged against rounding and a null."""
