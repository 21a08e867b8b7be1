# grf on the data that causal_forest.py wrote: Rscript causal_forest.R FILE N_UNITS N_THREADS
library(grf)
given <- commandArgs(TRUE)
d <- matrix(readBin(given[1], "double", file.size(given[1]) / 8), nrow = as.integer(given[2]))
told <- function(words, time) {
  cat(sprintf("%-44s wall %7.2f s   CPU %7.2f s\n", words, time[3], time[1] + time[2]))
}
told(paste("grf", packageVersion("grf"), "fit and out-of-bag variances"), system.time({
  forest <- causal_forest(d[, -(1:2)], d[, 1], d[, 2], num.threads = as.integer(given[3]))
  found <- predict(forest, estimate.variance = TRUE)
}))
told("average and calibration", system.time({
  average_treatment_effect(forest)
  test_calibration(forest)
}))
told("RATE with 2,000 half-samples", system.time(
  rank_average_treatment_effect(forest, found$predictions, R = 2000)
))
status <- grep("VmHWM", readLines("/proc/self/status"), value = TRUE)
cat("peak memory", round(as.numeric(gsub("[^0-9]", "", status)) / 1024), "MB\n")
