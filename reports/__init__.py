"""Reports: offline HTML pages made from stored runs."""
