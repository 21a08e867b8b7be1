# Fits grf to the data that `run.py --export FOLDER` wrote and appends to grf.csv what is lacking.
# Rscript grf.R FOLDER [first replication] [last replication]; run in this folder.
library(grf)
given <- commandArgs(TRUE)
chosen <- if (length(given) > 2) given[2]:given[3] else 0:1000
done <- if (file.exists("grf.csv")) read.csv("grf.csv") else NULL
for (path in list.files(given[1], "[.]bin$", full.names = TRUE)) {
  parts <- strsplit(sub("[.]bin$", "", basename(path)), "_")[[1]]
  number <- as.integer(parts[1]); p <- as.integer(parts[3])
  setting <- sprintf("%s, p = %d", parts[2], p)
  if (!(number %in% chosen) || any(done$replication == number & done$setting == setting)) next
  d <- matrix(readBin(path, "double", file.size(path) / 8), ncol = p + 3)
  tau <- d[, 3]
  forest <- causal_forest(d[, -(1:3)], d[, 1], d[, 2], num.threads = 1, seed = as.numeric(parts[4]))
  found <- predict(forest, estimate.variance = TRUE)
  error <- sqrt(found$variance.estimates)
  inside <- abs(found$predictions - tau) <= qnorm(0.95) * error
  rows <- data.frame(
    replication = number, setting = setting, estimator = paste("grf", packageVersion("grf")),
    term = c("RMSE", "coverage", "mean SE"),
    estimate = signif(c(sqrt(mean((found$predictions - tau)^2)), mean(inside), mean(error)), 5)
  )
  write.table(rows, "grf.csv", sep = ",", row.names = FALSE, qmethod = "double",
              append = file.exists("grf.csv"), col.names = !file.exists("grf.csv"))
}
