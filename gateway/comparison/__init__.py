"""What two versions' answers to the same labelled rows are worth beside one another. Pure: values in, values out."""
